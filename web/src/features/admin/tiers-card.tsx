import type { AdminCache, Sample } from '@/api/admin'
import { Sparkline } from '@/ui/sparkline'
import { Badge, Figures, Section, Table } from './parts'
import { bytes, clock, percent, span } from './words'

const ratio = (s: Sample) => (s.reads > 0 ? (100 * (s.l1_hits + s.l2_hits)) / s.reads : null)

/** The tiers of the cache: how often they had what was asked for, lately and by namespace. */
export function TiersCard({ cache }: { cache: AdminCache }) {
  const { health, stats, samples } = cache
  const reads = stats.l1_hits + stats.l1_misses
  const recent = samples.slice(-12).reverse()
  const most = Math.max(1, ...samples.map((s) => s.reads))
  return (
    <Section title="Cache" hint={`As ${cache.node} sees it; every process has memory of its own.`}>
      <p className="flex flex-wrap items-center gap-2">
        <Badge tone={health.status === 'healthy' ? 'good' : 'warn'}>{health.status === 'healthy' ? 'Healthy' : 'Degraded'}</Badge>
        {!health.redis && <span className="text-sm text-ink-3">No Redis: memory only</span>}
      </p>
      <div className="grid gap-4 sm:grid-cols-2">
        <figure className="grid gap-1.5">
          <figcaption className="text-sm font-semibold">Served from a tier, 0 to 100 %</figcaption>
          <Sparkline values={samples.map(ratio)} max={100} label="Part of the reads served from a tier; the table below has the numbers" />
        </figure>
        <figure className="grid gap-1.5">
          <figcaption className="text-sm font-semibold">
            Reads in {cache.sample_seconds} s, up to {most}
          </figcaption>
          <Sparkline values={samples.map((s) => s.reads)} max={most} label="Reads over time; the table below has the numbers" />
        </figure>
      </div>
      <details>
        <summary className="min-h-11 cursor-pointer content-center font-semibold text-brand">The last two minutes as a table</summary>
        <Table
          label="Reads over time"
          head={['At', 'Reads', 'Memory', 'Redis', 'Loads', 'Breaker']}
          rows={recent.map((s) => [
            clock(s.at),
            s.reads,
            percent(s.l1_hits, s.reads),
            percent(s.l2_hits, s.reads),
            s.loads,
            s.breaker || '–',
          ])}
        />
      </details>
      <Figures
        of={[
          ['Served by memory', percent(stats.l1_hits, reads)],
          ['Served by Redis', percent(stats.l2_hits, reads)],
          ['Entries in memory', stats.entries.toLocaleString()],
          ['Memory used', `${bytes(stats.l1_bytes)} of ${bytes(stats.l1_capacity_bytes)}`],
          ['Evicted', stats.l1_evicted.toLocaleString()],
          ['Breaker', health.breaker || '–'],
          ['Backplane', health.redis ? (health.coherent ? 'in step' : 'out of step') : '–'],
          ['Backplane lag', health.redis ? span(health.lag_ns) : '–'],
          ['Not yet told to Redis', health.recovery_queue.toLocaleString()],
          ['Loads', stats.loads.toLocaleString()],
          ['Failed loads', stats.load_errors.toLocaleString()],
        ]}
      />
      <Table
        label="Caches"
        head={['Cache', 'Reads', 'Memory', 'Redis', 'Entries', 'Size', 'TTL']}
        rows={cache.namespaces.map((n) => {
          const all = n.stats.l1_hits + n.stats.l1_misses
          return [
            <>
              {n.name}
              <span className="block min-w-28 whitespace-normal text-ink-3">{n.holds}</span>
            </>,
            all.toLocaleString(),
            percent(n.stats.l1_hits, all),
            percent(n.stats.l2_hits, all),
            n.stats.entries.toLocaleString(),
            bytes(n.stats.l1_bytes),
            span(n.ttl_ns),
          ]
        })}
      />
    </Section>
  )
}
