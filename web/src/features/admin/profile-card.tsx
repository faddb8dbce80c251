import { useMutation, useQueryClient } from '@tanstack/react-query'
import { type RedisProfile, resetRedisProfile } from '@/api/admin'
import { explain } from '@/api/problem'
import { Button } from '@/ui/button'
import { toast } from '@/ui/toast'
import { Figures, Section, Table } from './parts'
import { millis, moment, percent } from './words'

/** What the commands of this process took, and a way to begin anew. */
export function ProfileCard({ profile, node }: { profile: RedisProfile; node?: string }) {
  const queryClient = useQueryClient()
  const reset = useMutation({
    mutationFn: resetRedisProfile,
    onSuccess: () => toast({ text: 'The profile begins anew' }),
    onError: (error) => toast({ tone: 'bad', text: explain(error) }),
    onSettled: () => queryClient.invalidateQueries({ queryKey: ['admin'] }),
  })
  const five = profile.last_five_minutes
  return (
    <Section title="Commands" hint={`What ${node ?? 'this process'} sent to Redis since ${moment(profile.since)}.`}>
      <Figures
        of={[
          ['In five minutes', five.count.toLocaleString()],
          ['Failed', percent(five.failed, five.count)],
          ['p50, p95', five.timed > 0 ? `${millis(five.p50_ms)}, ${millis(five.p95_ms)}` : '–'],
          ['p99, longest', five.timed > 0 ? `${millis(five.p99_ms)}, ${millis(five.max_ms)}` : '–'],
        ]}
      />
      {profile.commands.length === 0 ? (
        <p className="text-ink-2">No command was recorded: either none was sent, or REDIS_PERFORMANCE_MONITORING is false.</p>
      ) : (
        <Table
          label="Commands by the time they took"
          head={['Command', 'Count', 'Failed', 'Average', 'p50 of the last', 'p95', 'Longest', 'Errors']}
          rows={profile.commands.map((c) => [
            c.name,
            c.count.toLocaleString(),
            c.failed.toLocaleString(),
            c.last.count > 0 ? millis(c.average_ms) : '–',
            c.last.count > 0 ? `${millis(c.last.p50_ms)} of ${c.last.count}` : '–',
            c.last.count > 0 ? millis(c.last.p95_ms) : '–',
            c.last.count > 0 ? millis(c.last.max_ms) : '–',
            Object.entries(c.errors)
              .map(([kind, n]) => `${kind} (${n})`)
              .join(', ') || '–',
          ])}
        />
      )}
      <div>
        <Button busy={reset.isPending} onClick={() => reset.mutate()}>
          Begin the profile anew
        </Button>
      </div>
    </Section>
  )
}
