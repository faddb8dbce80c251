import { useMutation } from '@tanstack/react-query'
import { type Area, type Diagnosis, diagnoseRedis, type Finding } from '@/api/admin'
import { explain } from '@/api/problem'
import { Button } from '@/ui/button'
import { FormError } from '@/ui/field'
import { Badge, Section, type Tone } from './parts'
import { clock, millis } from './words'

const areas: readonly { area: Area; word: string }[] = [
  { area: 'connection', word: 'Connection' },
  { area: 'memory', word: 'Memory' },
  { area: 'performance', word: 'Performance' },
]

const severities: Record<Finding['severity'], { tone: Tone; word: string }> = {
  critical: { tone: 'bad', word: 'Critical' },
  warning: { tone: 'warn', word: 'Warning' },
  note: { tone: 'calm', word: 'Note' },
}

/** Looks for what is wrong with Redis, an area at a time, when told to. */
export function DiagnoseCard() {
  const look = useMutation({ mutationFn: diagnoseRedis })
  return (
    <Section
      title="Diagnose"
      hint="Looks now, for at most a quarter of a minute, and says what is wrong, why that may be, and what to do. The same as crewbeat doctor."
    >
      <div className="flex flex-wrap gap-2">
        {areas.map(({ area, word }) => (
          <Button
            key={area}
            aria-label={`Diagnose: ${word}`}
            busy={look.isPending && look.variables === area}
            disabled={look.isPending}
            onClick={() => look.mutate(area)}
          >
            {word}
          </Button>
        ))}
      </div>
      {look.isError && <FormError>{explain(look.error)}</FormError>}
      <div aria-live="polite">{look.data && look.variables && <Findings of={look.data} area={look.variables} />}</div>
    </Section>
  )
}

/** What a diagnosis of an area found: of the connection too, as nothing else can be seen without. */
export function Findings({ of, area }: { of: Diagnosis; area: Area }) {
  const seen = of.looked.includes(area)
  return (
    <div className="grid gap-4">
      <p className="flex flex-wrap items-center gap-2">
        {of.findings.length === 0 ? (
          <Badge tone={seen ? 'good' : 'calm'}>{seen ? 'Nothing is wrong' : 'No Redis: nothing to diagnose'}</Badge>
        ) : (
          <span className="font-semibold">{of.findings.length === 1 ? 'One finding' : `${of.findings.length} findings`}</span>
        )}
        <span className="text-sm text-ink-3">
          {area}, by {of.node} at {clock(of.at)}, in {millis(of.took_ms)}
        </span>
      </p>
      {!seen && of.findings.length > 0 && <p className="text-sm text-ink-2">Without a connection its {area} could not be looked at.</p>}
      <ul className="grid gap-4 empty:hidden">
        {of.findings.map((f) => (
          <li key={`${f.id} ${f.node}`} className="grid gap-1.5 border-b border-line pb-4 last:border-0 last:pb-0">
            <p className="flex flex-wrap items-center gap-2">
              <Badge tone={severities[f.severity].tone}>{severities[f.severity].word}</Badge>
              <span className="text-sm break-all text-ink-3">
                {f.id} · {f.node}
              </span>
            </p>
            <p className="font-semibold break-words">{f.seen}</p>
            <Lines title="Likely causes" of={f.causes} />
            <Lines title="What to do" of={f.next} />
          </li>
        ))}
      </ul>
    </div>
  )
}

function Lines({ title, of }: { title: string; of: readonly string[] }) {
  if (of.length === 0) return null
  return (
    <div className="text-sm text-ink-2">
      <h3 className="font-semibold">{title}</h3>
      <ul className="list-disc pl-5 break-words">
        {of.map((line) => (
          <li key={line}>{line}</li>
        ))}
      </ul>
    </div>
  )
}
