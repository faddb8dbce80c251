import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query'
import { Check, Copy, Link2, Trash2 } from 'lucide-react'
import { useRef, useState } from 'react'
import { explain } from '@/api/problem'
import { invite, invitesQuery, revokeInvite } from '@/api/teams'
import type { NewInvite } from '@/api/types'
import { Button, IconButton } from '@/ui/button'
import { Segmented } from '@/ui/choice'
import { Dialog, DialogBody } from '@/ui/dialog'
import { FormError } from '@/ui/field'

/** Makes a link with which people can join a team. */
export function InviteDialog({
  open,
  onClose,
  teamId,
  teamName,
}: {
  open: boolean
  onClose: () => void
  teamId: string
  teamName: string
}) {
  return (
    <Dialog
      open={open}
      onClose={onClose}
      title={`Invite to ${teamName}`}
      description="Whoever opens the link can join. It works for seven days."
    >
      <DialogBody>
        <NewLink teamId={teamId} />
        <OpenInvites teamId={teamId} />
      </DialogBody>
    </Dialog>
  )
}

function NewLink({ teamId }: { teamId: string }) {
  const [role, setRole] = useState<NewInvite['role']>('member')
  const [copied, setCopied] = useState(false)
  const field = useRef<HTMLInputElement>(null)
  const queryClient = useQueryClient()
  const make = useMutation({
    mutationFn: () => invite(teamId, { role, expires_in_days: 7 }),
    onSuccess: () => queryClient.invalidateQueries({ queryKey: invitesQuery(teamId).queryKey }),
  })
  const copy = async (link: string) => {
    try {
      await navigator.clipboard.writeText(link)
      setCopied(true)
      setTimeout(() => setCopied(false), 2500)
    } catch {
      // Not allowed to: marked, it can be copied by hand.
      field.current?.select()
    }
  }

  if (!make.data)
    return (
      <div className="grid gap-4">
        {make.isError && <FormError>{explain(make.error)}</FormError>}
        <div className="grid gap-2">
          <span className="text-sm font-semibold">They join as</span>
          <Segmented
            label="They join as"
            value={role}
            onChange={setRole}
            options={[
              { value: 'member', label: 'Member' },
              { value: 'manager', label: 'Manager' },
              { value: 'viewer', label: 'Viewer' },
            ]}
          />
        </div>
        <Button look="primary" size="lg" busy={make.isPending} onClick={() => make.mutate()}>
          <Link2 aria-hidden="true" className="size-5" />
          Create link
        </Button>
      </div>
    )
  const { link } = make.data
  return (
    <div className="grid gap-3">
      <label className="grid gap-1.5 text-sm font-semibold">
        Invitation link
        <input
          ref={field}
          readOnly
          value={link}
          onFocus={(e) => e.target.select()}
          className="h-12 w-full rounded-control border border-line-strong/70 bg-sunken px-3.5 font-mono text-[0.8125rem] font-normal text-ink"
        />
      </label>
      <Button look="primary" size="lg" onClick={() => void copy(link)}>
        {copied ? <Check aria-hidden="true" className="size-5" /> : <Copy aria-hidden="true" className="size-5" />}
        {copied ? 'Copied' : 'Copy link'}
      </Button>
      <p aria-live="polite" className="text-[0.8125rem] text-ink-2">
        {copied ? 'The link is on your clipboard.' : 'It is shown only now. Send it to people you trust.'}
      </p>
    </div>
  )
}

function OpenInvites({ teamId }: { teamId: string }) {
  const invites = useQuery(invitesQuery(teamId))
  const queryClient = useQueryClient()
  const revoke = useMutation({
    mutationFn: (id: string) => revokeInvite(teamId, id),
    onSettled: () => queryClient.invalidateQueries({ queryKey: invitesQuery(teamId).queryKey }),
  })
  if (!invites.data || invites.data.length === 0) return null
  return (
    <section aria-labelledby="open-invites" className="grid gap-1 border-t border-line pt-4">
      <h3 id="open-invites" className="text-sm font-semibold">
        Links that still work
      </h3>
      {revoke.isError && <FormError>{explain(revoke.error)}</FormError>}
      <ul>
        {invites.data.map((i) => (
          <li key={i.id} className="flex min-h-11 items-center justify-between gap-3 text-sm text-ink-2">
            <span>
              For a {i.role}, by {i.inviter_name}, until{' '}
              {new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' }).format(
                new Date(i.expires_at),
              )}
            </span>
            <IconButton label="Make this link worthless" className="-mr-2" disabled={revoke.isPending} onClick={() => revoke.mutate(i.id)}>
              <Trash2 aria-hidden="true" className="size-4.5" />
            </IconButton>
          </li>
        ))}
      </ul>
    </section>
  )
}
