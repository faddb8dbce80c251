import { useMutation, useQueryClient } from '@tanstack/react-query'
import { type FormEvent, useState } from 'react'
import { type AdminCache, type CacheInvalidation, invalidate } from '@/api/admin'
import { explain } from '@/api/problem'
import { Button } from '@/ui/button'
import { Dialog, DialogActions, DialogBody } from '@/ui/dialog'
import { FormError, SelectField, TextField } from '@/ui/field'
import { toast } from '@/ui/toast'
import { Section } from './parts'

export type What = 'tag' | 'prefix' | 'key' | 'all'

/** What is sent to drop something of the cache. */
export function requestOf(what: What, namespace: string, text: string): CacheInvalidation {
  switch (what) {
    case 'tag':
      return { tag: text }
    case 'prefix':
      return { namespace, prefix: text }
    case 'key':
      return { namespace, key: text }
    case 'all':
      return { namespace, all: true }
  }
}

/** What is dropped, in words. */
export function sentenceOf(what: What, namespace: string, text: string): string {
  switch (what) {
    case 'tag':
      return `every entry with the tag ${text}, in all caches`
    case 'prefix':
      return `every entry of ${namespace} whose key begins with ${text}`
    case 'key':
      return `the entry ${text} of ${namespace}`
    case 'all':
      return `the whole cache ${namespace}`
  }
}

/** Drops what is cached, after asking once more. */
export function Invalidator({ cache }: { cache: AdminCache }) {
  const queryClient = useQueryClient()
  const [what, setWhat] = useState<What>('tag')
  const [namespace, setNamespace] = useState(cache.namespaces[0]?.name ?? '')
  const [text, setText] = useState('')
  const [asking, setAsking] = useState(false)
  const value = text.trim()
  const drop = useMutation({
    mutationFn: () => invalidate(requestOf(what, namespace, value)),
    onSuccess: (done) => {
      setAsking(false)
      const count = done.deleted === undefined ? '' : ` (${done.deleted} ${done.deleted === 1 ? 'entry' : 'entries'})`
      toast({ text: done.recovery_queue > 0 ? `Dropped here${count}; Redis is told when it is back` : `Dropped everywhere${count}` })
    },
    onSettled: () => queryClient.invalidateQueries({ queryKey: ['admin'] }),
  })
  const ask = (e: FormEvent) => {
    e.preventDefault()
    drop.reset()
    setAsking(true)
  }
  return (
    <Section
      title="Invalidate"
      hint="Drops what is cached, in both tiers and all processes. Nothing is lost: it is read from the database again."
    >
      <form onSubmit={ask} className="grid gap-4 sm:grid-cols-2">
        <SelectField label="What" value={what} onChange={(e) => setWhat(e.target.value as What)}>
          <option value="tag">By tag</option>
          <option value="prefix">By the beginning of its key</option>
          <option value="key">One key</option>
          <option value="all">A whole cache</option>
        </SelectField>
        {what !== 'tag' && (
          <SelectField label="In the cache" value={namespace} onChange={(e) => setNamespace(e.target.value)}>
            {cache.namespaces.map((n) => (
              <option key={n.name}>{n.name}</option>
            ))}
          </SelectField>
        )}
        {what !== 'all' && (
          <TextField
            label={what === 'tag' ? 'Tag' : what === 'prefix' ? 'Beginning of the key' : 'Key to drop'}
            value={text}
            required
            onChange={(e) => setText(e.target.value)}
          />
        )}
        <div className="sm:col-span-2">
          <Button type="submit">Invalidate…</Button>
        </div>
      </form>
      <Dialog
        open={asking}
        onClose={() => setAsking(false)}
        title="Drop it from the cache?"
        description={`This drops ${sentenceOf(what, namespace, value)}. It is noted in the audit log with your name.`}
      >
        {drop.isError && (
          <DialogBody>
            <FormError>{explain(drop.error)}</FormError>
          </DialogBody>
        )}
        <DialogActions>
          <Button onClick={() => setAsking(false)}>Keep it</Button>
          <Button look="danger" busy={drop.isPending} onClick={() => drop.mutate()}>
            Drop it
          </Button>
        </DialogActions>
      </Dialog>
    </Section>
  )
}
