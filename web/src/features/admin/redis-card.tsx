import type { AdminRedis } from '@/api/admin'
import { Badge, Figures, Section, type Tone } from './parts'
import { bytes, millis, moment } from './words'

const states: Record<AdminRedis['state'], { tone: Tone; word: string }> = {
  up: { tone: 'good', word: 'Up' },
  down: { tone: 'bad', word: 'Down' },
  off: { tone: 'calm', word: 'No Redis: memory only' },
}

const ms = (n: number | undefined) => (n === undefined ? '–' : millis(n))

/** Whether Redis can be used, why not, and how it and the connections to it are. */
export function RedisCard({ redis }: { redis: AdminRedis }) {
  const { metrics, details, status } = redis.health
  const degraded = redis.state === 'up' && status === 'degraded'
  const memory = metrics.memory_usage
  return (
    <Section title="Redis" hint={redis.state === 'off' ? 'This installation keeps its cache in memory and needs none.' : redis.address}>
      <p className="flex flex-wrap items-center gap-2">
        <Badge tone={degraded ? 'warn' : states[redis.state].tone}>{degraded ? 'Degraded' : states[redis.state].word}</Badge>
        {redis.since && <span className="text-sm text-ink-3">since {moment(redis.since)}</span>}
      </p>
      {redis.state === 'down' && (
        <p className="rounded-control bg-danger-soft px-3.5 py-3 text-sm text-danger">
          <strong>{redis.cause || 'It does not answer'}.</strong> Crewbeat is slower and loses nothing.
          {redis.check && <> Check {redis.check}.</>}
        </p>
      )}
      {redis.state !== 'off' && (
        <Figures
          of={[
            ['Ping', ms(metrics.ping_ms)],
            ['Write, read', `${ms(metrics.set_ms)}, ${ms(metrics.get_ms)}`],
            ['Version', details.version ?? '–'],
            ['Memory', memory ? bytes(memory.used_bytes) : '–'],
            ['Memory limit', memory ? (memory.max_bytes > 0 ? bytes(memory.max_bytes) : 'none') : '–'],
            ['Clients', metrics.connected_clients ?? '–'],
            ['Connections used, idle', `${redis.pool.used}, ${redis.pool.idle} (at most ${redis.pool.max})`],
            ['Waits given up', redis.pool.timeouts],
            ['Returns after a loss', redis.pool.reconnected],
            ['Commands', redis.pool.commands.toLocaleString()],
            ['Failed', redis.pool.failed_commands.toLocaleString()],
            ['Average', ms(redis.pool.average_ms)],
          ]}
        />
      )}
    </Section>
  )
}
