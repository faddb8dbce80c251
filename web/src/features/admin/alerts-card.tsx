import { useMutation, useQueryClient } from '@tanstack/react-query'
import { acknowledge, type AdminAlert } from '@/api/admin'
import { explain } from '@/api/problem'
import { Button } from '@/ui/button'
import { toast } from '@/ui/toast'
import { Badge, Section } from './parts'
import { moment } from './words'

/** Alerts, each with what to do, and a way to say that somebody has seen it. */
export function AlertsCard({ alerts, watching }: { alerts: readonly AdminAlert[]; watching: boolean }) {
  const queryClient = useQueryClient()
  const seen = useMutation({
    mutationFn: acknowledge,
    onSuccess: () => toast({ text: 'Noted that you have seen it' }),
    onError: (error) => toast({ tone: 'bad', text: explain(error) }),
    onSettled: () => queryClient.invalidateQueries({ queryKey: ['admin'] }),
  })
  return (
    <Section title="Alerts" hint={watching ? 'Measured every minute.' : 'Nothing is watched where there is no Redis.'}>
      {watching && alerts.length === 0 && <p className="text-ink-2">No alert has fired.</p>}
      <ul className="grid gap-4 empty:hidden">
        {alerts.map((a) => (
          <li key={a.id} className="grid gap-1.5 border-b border-line pb-4 last:border-0 last:pb-0">
            <p className="flex flex-wrap items-center gap-2">
              <Badge tone={a.resolved_at ? 'calm' : a.severity === 'critical' ? 'bad' : 'warn'}>
                {a.resolved_at ? 'Over' : a.severity}
              </Badge>
              <span className="text-sm text-ink-3">
                {moment(a.started_at)}
                {a.resolved_at && ` to ${moment(a.resolved_at)}`}
                {a.subject && ` · ${a.subject}`}
              </span>
            </p>
            <p className="font-semibold">{a.summary}</p>
            {!a.resolved_at && (
              <p className="text-sm text-ink-2">
                {a.advice}{' '}
                <a
                  className="font-semibold text-brand underline-offset-4 hover:underline"
                  href={a.runbook}
                  target="_blank"
                  rel="noreferrer"
                >
                  What to do
                </a>
              </p>
            )}
            {a.acked_at && <p className="text-sm text-ink-3">Seen {moment(a.acked_at)}</p>}
            {!a.resolved_at && !a.acked_at && (
              <div>
                <Button
                  aria-label={`Acknowledge: ${a.summary}`}
                  busy={seen.isPending && seen.variables === a.id}
                  onClick={() => seen.mutate(a.id)}
                >
                  Acknowledge
                </Button>
              </div>
            )}
          </li>
        ))}
      </ul>
    </Section>
  )
}
