import type { AdminRedis, RedisNode } from '@/api/admin'
import { Figures, Section, Table } from './parts'
import { bytes, millis, moment, percent, span } from './words'

const unseen: Record<RedisNode['state'], string> = {
  ok: '',
  not_permitted: 'Not permitted: the Redis user may not ask for it',
  unknown: 'This server does not have it',
  failed: 'It did not answer',
  not_yet: 'Nobody has looked yet',
}

/** Why a part was not seen; empty if it was. */
export function whyUnseen(part: { state: RedisNode['state']; error?: string }): string {
  return part.state === 'failed' && part.error ? `${unseen.failed}: ${part.error}` : unseen[part.state]
}

/** How the servers of Redis were at the last look. */
export function ServersCard({ servers, state }: { servers: AdminRedis['servers']; state: AdminRedis['state'] }) {
  if (state === 'off') return null
  const hint = servers.at
    ? `Seen ${moment(servers.at)}${state === 'down' ? ', before Redis was lost' : `, every ${servers.every_seconds} s`}.`
    : servers.every_seconds > 0
      ? 'Nobody has looked yet.'
      : 'Nobody looks: REDIS_MONITOR_INTERVAL is 0.'
  return (
    <Section title="Servers" hint={hint}>
      {servers.nodes.map((n) => (
        <ServerFigures key={n.addr} of={n} />
      ))}
    </Section>
  )
}

function ServerFigures({ of: n }: { of: RedisNode }) {
  const missing = whyUnseen(n)
  return (
    <div className="grid gap-4 border-b border-line pb-5 last:border-0 last:pb-0">
      <h3 className="font-bold break-all">
        {n.addr} {n.role && <span className="font-normal text-ink-3">{n.role === 'slave' ? 'replica' : n.role}</span>}
      </h3>
      {missing ? <p className="text-ink-2">{missing}.</p> : <Info of={n} />}
      <Sampled of={n} />
      <SlowLog of={n} />
      <Spikes of={n} />
    </div>
  )
}

function Info({ of: n }: { of: RedisNode }) {
  const { memory, clients, keyspace, persistence, replication } = n
  const keys = keyspace.databases.reduce((sum, d) => sum + d.keys, 0)
  const good = (ok: boolean) => (ok ? 'ok' : 'failed')
  return (
    <>
      <Figures
        of={[
          ['Memory used', memory.max_bytes > 0 ? `${bytes(memory.used_bytes)} of ${bytes(memory.max_bytes)}` : bytes(memory.used_bytes)],
          ['Limit', memory.used_ratio === null ? 'none' : percent(memory.used_ratio, 1)],
          ['Policy', memory.policy || '–'],
          ['Peak', bytes(memory.peak_bytes)],
          ['Fragmentation', memory.fragmentation_ratio.toFixed(2)],
          ['Evicted', `${keyspace.evicted.toLocaleString()} (${keyspace.evicted_per_second.toFixed(1)} a second)`],
          ['Clients', clients.max > 0 ? `${clients.connected} of ${clients.max}` : clients.connected],
          ['Clients blocked, refused', `${clients.blocked}, ${clients.rejected}`],
          ['Commands a second', n.commands.per_second.toLocaleString()],
          ['Keys', keys.toLocaleString()],
          ['Hits', keyspace.hit_ratio === null ? '–' : percent(keyspace.hit_ratio, 1)],
          ['Expired', keyspace.expired.toLocaleString()],
          ['Last snapshot', `${persistence.last_save ? moment(persistence.last_save) : 'never'}, ${good(persistence.last_save_ok)}`],
          ['Changes since', persistence.changes_since_save.toLocaleString()],
          ['Append-only file', persistence.aof ? good(persistence.last_aof_write_ok && persistence.last_aof_rewrite_ok) : 'off'],
          ['Last fork', millis(persistence.last_fork_ms)],
          ['Up for', span(n.uptime_seconds * 1e9)],
          ['Version', n.version || '–'],
        ]}
      />
      {replication.master && (
        <p className="text-sm text-ink-2">
          A replica of {replication.master}: {replication.link_up ? `${replication.lag_seconds} s behind` : 'it does not hear its master'}.
        </p>
      )}
      {replication.replicas.length > 0 ? (
        <Table
          label={`Replicas of ${n.addr}`}
          head={['Replica', 'State', 'Lag', 'Behind']}
          rows={replication.replicas.map((r) => [r.addr, r.state, `${r.lag_seconds} s`, bytes(r.behind_bytes)])}
        />
      ) : (
        !replication.master && <p className="text-sm text-ink-3">No replicas.</p>
      )}
    </>
  )
}

function Sampled({ of: n }: { of: RedisNode }) {
  const s = n.sample
  const missing = whyUnseen(s)
  if (n.role === 'slave') return null
  return (
    <div className="grid gap-1 text-sm text-ink-2">
      <h4 className="font-semibold text-ink">Keys that never expire</h4>
      <p>
        {missing ||
          `${s.eternal.toLocaleString()} of ${s.keys.toLocaleString()} keys ${s.whole_round ? 'there are' : 'of a sample'}${s.forbidden > 0 ? `; ${s.forbidden} may not be looked at` : ''}`}
        .
      </p>
      {!missing && s.eternal > 0 && (
        <Table
          label={`Keys that never expire on ${n.addr}`}
          head={['Begin with', 'Keys']}
          rows={Object.entries(s.by_prefix).map(([prefix, count]) => [prefix, count])}
        />
      )}
    </div>
  )
}

function SlowLog({ of: n }: { of: RedisNode }) {
  const log = n.slow_log
  const missing = whyUnseen(log)
  return (
    <div className="grid gap-1 text-sm text-ink-2">
      <h4 className="font-semibold text-ink">Slow log</h4>
      {missing || log.entries.length === 0 ? (
        <p>{missing || 'No slow command'}.</p>
      ) : (
        <Table
          label={`Slow log of ${n.addr}`}
          head={['When', 'Command', 'Took', 'Arguments', 'Client']}
          rows={log.entries.slice(0, 10).map((c) => [moment(c.at), c.command, millis(c.took_ms), c.arguments, c.name || c.client])}
        />
      )}
      {log.length > 10 && <p>{log.length.toLocaleString()} in all; the newest are shown.</p>}
    </div>
  )
}

function Spikes({ of: n }: { of: RedisNode }) {
  const { latency } = n
  const missing = whyUnseen(latency)
  return (
    <div className="grid gap-1 text-sm text-ink-2">
      <h4 className="font-semibold text-ink">Latency events</h4>
      {missing || latency.events.length === 0 ? (
        <p>{missing || 'None noticed by the server'}.</p>
      ) : (
        <Table
          label={`Latency events of ${n.addr}`}
          head={['Event', 'Last', 'Took', 'Longest']}
          rows={latency.events.map((e) => [e.event, moment(e.at), millis(e.latest_ms), millis(e.max_ms)])}
        />
      )}
    </div>
  )
}
