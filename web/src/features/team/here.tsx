import { activityChannel } from '@/api/teams'
import type { Member } from '@/api/types'
import { usePeople, useRealtimeStatus } from '@/realtime'
import { Avatar } from '@/ui/surface'
import { useOnline } from '@/ui/use-online'

/** Who of a team is here; undefined while that is not known, or may no longer be true. */
export function useHere(teamId: string): ReadonlySet<string> | undefined {
  const people = usePeople(activityChannel(teamId))
  const { phase, failures } = useRealtimeStatus()
  const online = useOnline()
  // A cut that is over in a moment is not worth a flicker.
  const known = phase === 'open' || phase === 'connecting' || (phase === 'waiting' && failures <= 2)
  return known && online ? people : undefined
}

const shown = 5

/** The faces of who is here, and how many that are. */
export function HereNow({ members, here, me }: { members: readonly Member[]; here: ReadonlySet<string> | undefined; me: string }) {
  if (!here) return null
  const those = members.filter((m) => here.has(m.user_id))
  if (those.length === 0) return null
  const rest = those.length - shown
  return (
    <div data-here className="flex items-center gap-2.5 pt-1">
      <span className="flex -space-x-2" aria-hidden="true">
        {those.slice(0, shown).map((m) => (
          <Avatar key={m.user_id} name={m.name} id={m.user_id} className="size-8 text-xs ring-2 ring-bg" />
        ))}
        {rest > 0 && (
          <span className="inline-grid size-8 place-items-center rounded-full bg-sunken text-xs font-bold text-ink-2 ring-2 ring-bg">
            +{rest}
          </span>
        )}
      </span>
      <p className="text-sm font-semibold text-ink-2">
        {those.length === 1 && those[0]?.user_id === me ? 'Only you are here now' : `${those.length} here now`}
        <span className="sr-only">: {those.map((m) => (m.user_id === me ? 'you' : m.name)).join(', ')}</span>
      </p>
    </div>
  )
}

/** A member's face, with a mark if they are here. What it means stands beside it in words. */
export function Face({ member, here }: { member: Member; here: boolean }) {
  return (
    <span className="relative">
      <Avatar name={member.name} id={member.user_id} />
      {here && <span aria-hidden="true" className="absolute -right-0.5 -bottom-0.5 size-3.5 rounded-full bg-brand ring-2 ring-surface" />}
    </span>
  )
}
