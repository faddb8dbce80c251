import { useMutation } from '@tanstack/react-query'
import { type FormEvent, useState } from 'react'
import { type AdminCache, type Inspection, inspectKey } from '@/api/admin'
import { explain } from '@/api/problem'
import { Button } from '@/ui/button'
import { FormError, SelectField, TextField } from '@/ui/field'
import { Badge, Figures, Section, Table } from './parts'
import { bytes, moment, span } from './words'

const verdicts: Record<string, string> = {
  hit_l1: 'Memory has it',
  hit_l2: 'Redis has it',
  not_found: 'Known not to exist',
  miss: 'Not cached',
  unknown: 'Redis would not say',
}

/** Looks a key up in both tiers; what it holds is never shown. */
export function Inspector({ cache }: { cache: AdminCache }) {
  const [namespace, setNamespace] = useState(cache.namespaces[0]?.name ?? '')
  const [key, setKey] = useState('')
  const look = useMutation({ mutationFn: () => inspectKey(namespace, key.trim()) })
  const chosen = cache.namespaces.find((n) => n.name === namespace)
  const send = (e: FormEvent) => {
    e.preventDefault()
    if (key.trim()) look.mutate()
  }
  return (
    <Section title="Key inspector" hint="What both tiers hold for a key. Values are never shown.">
      <form onSubmit={send} className="grid gap-4 sm:grid-cols-[12rem_minmax(0,1fr)_auto] sm:items-start">
        <SelectField label="Cache" value={namespace} onChange={(e) => setNamespace(e.target.value)}>
          {cache.namespaces.map((n) => (
            <option key={n.name}>{n.name}</option>
          ))}
        </SelectField>
        <TextField
          label="Key"
          value={key}
          required
          onChange={(e) => setKey(e.target.value)}
          hint={chosen && `${chosen.key_names}; holds ${chosen.holds}`}
        />
        <Button type="submit" className="sm:mt-6.5 sm:h-12" busy={look.isPending}>
          Look it up
        </Button>
      </form>
      {look.isError && <FormError>{explain(look.error)}</FormError>}
      <div aria-live="polite">{look.data && <Found in={look.data} />}</div>
    </Section>
  )
}

function Found({ in: it }: { in: Inspection }) {
  const { l1, l2 } = it
  return (
    <div className="grid gap-4">
      <p className="flex flex-wrap items-center gap-2">
        <Badge tone={it.verdict === 'miss' || it.verdict === 'unknown' ? 'calm' : 'good'}>{verdicts[it.verdict] ?? it.verdict}</Badge>
        <span className="text-sm text-ink-2">{it.why}</span>
      </p>
      <div className="grid gap-5 sm:grid-cols-2">
        <div className="grid content-start gap-2">
          <h3 className="font-bold">Memory</h3>
          {l1.present ? (
            <Figures
              of={[
                ['Age', span(l1.age_ns ?? 0)],
                ['Size', bytes(l1.bytes ?? 0)],
                ['Ends', l1.expires ? moment(l1.expires) : '–'],
                ['Version', l1.version ?? '–'],
              ]}
            />
          ) : (
            <p className="text-ink-2">{l1.why}</p>
          )}
        </div>
        <div className="grid content-start gap-2">
          <h3 className="font-bold">Redis</h3>
          {l2.present ? (
            <Figures
              of={[
                ['Age', span(l2.age_ns ?? 0)],
                ['Size', bytes(l2.size ?? 0)],
                ['Left', span(l2.ttl_ns ?? 0)],
                ['Version', l2.version ?? '–'],
                ['State', l2.servable ? 'current' : (l2.why ?? '–')],
              ]}
            />
          ) : (
            <p className="text-ink-2">{l2.why || 'No Redis: memory only'}</p>
          )}
        </div>
      </div>
      <Tags of={l2.tags ?? l1.tags ?? []} />
    </div>
  )
}

function Tags({ of }: { of: NonNullable<Inspection['l1']['tags']> }) {
  if (of.length === 0) return null
  return (
    <Table
      label="Tags"
      head={['Tag', 'As stored', 'Now', 'State']}
      rows={of.map((t) => [t.tag || 'the whole cache', t.stored, t.current, t.valid ? 'valid' : 'invalidated'])}
    />
  )
}
