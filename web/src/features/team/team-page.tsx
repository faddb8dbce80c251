import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query'
import { Ellipsis, LogOut, Plus, UserPlus, UserX } from 'lucide-react'
import { useState } from 'react'
import { explain } from '@/api/problem'
import { removeMember, teamQuery, teamsQuery } from '@/api/teams'
import type { Member, TeamDetail, User } from '@/api/types'
import { Button, IconButton } from '@/ui/button'
import { cx } from '@/ui/cx'
import { Menu, MenuItem } from '@/ui/menu'
import { Card, Empty, Failed, Loading, PageTitle, Skeleton } from '@/ui/surface'
import { toast } from '@/ui/toast'
import { CreateTeamDialog } from './create-dialog'
import { Feed } from './feed'
import { Face, HereNow, useHere } from './here'
import { InviteDialog } from './invite-dialog'

export type TeamProps = {
  me: User
  /** the first team without one */
  teamId: string | undefined
  onTeam: (id: string | undefined) => void
}

/** A person's teams: who is in them, and what they did. */
export function TeamPage({ me, teamId, onTeam }: TeamProps) {
  const teams = useQuery(teamsQuery)
  const [creating, setCreating] = useState(false)
  // One that the person has left, or was taken out of, is no longer among them.
  const current = (teams.data?.find(({ team }) => team.id === teamId) ?? teams.data?.[0])?.team.id

  return (
    <div className="mx-auto grid max-w-[84rem] gap-6 px-4 py-6 sm:px-8 sm:py-10 lg:px-12">
      {teams.isPending ? (
        <TeamSkeleton />
      ) : teams.isError && !teams.data ? (
        <Failed
          title="Your teams did not load"
          detail={explain(teams.error)}
          onRetry={() => void teams.refetch()}
          busy={teams.isFetching}
        />
      ) : current === undefined ? (
        <>
          <PageTitle>Team</PageTitle>
          <Card>
            <Empty
              art={<Oars />}
              title="Better together"
              action={
                <Button look="primary" size="lg" onClick={() => setCreating(true)}>
                  <Plus aria-hidden="true" className="size-5" />
                  Create a team
                </Button>
              }
            >
              In a team you see each other’s shared habits as they are ticked. Found one, or open an invitation link that somebody sent you.
            </Empty>
          </Card>
        </>
      ) : (
        <>
          {teams.data.length > 1 && (
            <nav aria-label="Teams" className="-mb-2 flex gap-2 overflow-x-auto p-1">
              {teams.data.map(({ team }) => (
                <Button
                  key={team.id}
                  look={team.id === current ? 'primary' : 'secondary'}
                  aria-current={team.id === current ? 'page' : undefined}
                  onClick={() => onTeam(team.id)}
                >
                  {team.name}
                </Button>
              ))}
            </nav>
          )}
          <Crew key={current} me={me} teamId={current} onLeft={() => onTeam(undefined)} onCreate={() => setCreating(true)} />
        </>
      )}
      <CreateTeamDialog open={creating} onClose={() => setCreating(false)} onCreated={(id) => onTeam(id)} />
    </div>
  )
}

function Crew({ me, teamId, onLeft, onCreate }: { me: User; teamId: string; onLeft: () => void; onCreate: () => void }) {
  const query = useQuery(teamQuery(teamId))
  const [inviting, setInviting] = useState(false)
  const here = useHere(teamId)
  if (query.isPending) return <TeamSkeleton />
  if (query.isError && !query.data)
    return (
      <Failed title="The team did not load" detail={explain(query.error)} onRetry={() => void query.refetch()} busy={query.isFetching} />
    )
  const { team, members, role } = query.data
  const mayInvite = role === 'owner' || role === 'manager'
  return (
    <>
      <header className="flex flex-wrap items-center justify-between gap-4">
        <div className="grid gap-1">
          <p className="text-[0.9375rem] font-medium text-ink-2">
            {members.length === 1 ? 'One member so far' : `${members.length} members`}
          </p>
          <PageTitle>{team.name}</PageTitle>
          <HereNow members={members} here={here} me={me.id} />
        </div>
        <div className="flex items-center gap-3">
          {mayInvite && (
            <Button look="primary" onClick={() => setInviting(true)}>
              <UserPlus aria-hidden="true" className="size-4.5" />
              Invite
            </Button>
          )}
          <Menu
            trigger={
              <IconButton label="More about teams" className="border border-line bg-surface">
                <Ellipsis aria-hidden="true" className="size-5" />
              </IconButton>
            }
          >
            <MenuItem icon={<Plus aria-hidden="true" />} onSelect={onCreate}>
              New team
            </MenuItem>
          </Menu>
        </div>
      </header>
      <div className="grid items-start gap-6 lg:grid-cols-[minmax(0,1fr)_20rem]">
        <Feed me={me} teamId={teamId} onInvite={mayInvite ? () => setInviting(true) : undefined} />
        <Members me={me} detail={query.data} here={here} onLeft={onLeft} />
      </div>
      {mayInvite && <InviteDialog open={inviting} onClose={() => setInviting(false)} teamId={teamId} teamName={team.name} />}
    </>
  )
}

const roles: Record<Member['role'], string> = { owner: 'Owner', manager: 'Manager', member: 'Member', viewer: 'Viewer' }

type MembersProps = { me: User; detail: TeamDetail; here: ReadonlySet<string> | undefined; onLeft: () => void }

function Members({ me, detail, here, onLeft }: MembersProps) {
  const { team, members, role } = detail
  const queryClient = useQueryClient()
  const remove = useMutation({
    mutationFn: (member: Member) => removeMember(team.id, member.user_id),
    onSuccess: async (_, member) => {
      await queryClient.invalidateQueries({ queryKey: ['teams'] })
      toast({ text: member.user_id === me.id ? `You left ${team.name}` : `${member.name} is no longer in ${team.name}` })
      if (member.user_id === me.id) onLeft()
    },
    onError: (error) => toast({ tone: 'bad', text: explain(error) }),
  })
  return (
    <Card aria-labelledby="members-title">
      <h2 id="members-title" className="border-b border-line px-5 py-4 text-lg font-bold">
        Members
      </h2>
      <ul className="p-2">
        {members.map((m) => {
          const self = m.user_id === me.id
          const present = here?.has(m.user_id) ?? false
          const mayRemove = self || role === 'owner' || (role === 'manager' && (m.role === 'member' || m.role === 'viewer'))
          return (
            <li key={m.user_id} className="flex min-h-14 items-center gap-3 rounded-2xl px-3 py-1.5">
              <Face member={m} here={present} />
              <span className="grid min-w-0 flex-1">
                <span className="truncate font-semibold">
                  {m.name}
                  {self && <span className="font-normal text-ink-3"> (you)</span>}
                </span>
                <span className="text-[0.8125rem] text-ink-3">
                  {roles[m.role]}
                  {present && <span className="font-semibold text-brand"> · Here now</span>}
                </span>
              </span>
              {mayRemove && (
                <Menu
                  trigger={
                    <IconButton label={`More for ${m.name}`} className={cx('-mr-2')}>
                      <Ellipsis aria-hidden="true" className="size-5" />
                    </IconButton>
                  }
                >
                  <MenuItem
                    danger
                    icon={self ? <LogOut aria-hidden="true" /> : <UserX aria-hidden="true" />}
                    onSelect={() => remove.mutate(m)}
                  >
                    {self ? 'Leave team' : 'Remove from team'}
                  </MenuItem>
                </Menu>
              )}
            </li>
          )
        })}
      </ul>
    </Card>
  )
}

function TeamSkeleton() {
  return (
    <Loading label="Loading your team" className="grid gap-6">
      <div className="grid gap-3">
        <Skeleton className="h-4 w-24" />
        <Skeleton className="h-9 w-56" />
      </div>
      <div className="grid gap-6 lg:grid-cols-[minmax(0,1fr)_20rem]">
        <Card className="grid gap-5 p-5">
          {[0, 1, 2, 3].map((i) => (
            <div key={i} className="flex items-center gap-3.5">
              <Skeleton className="size-10 rounded-full" />
              <Skeleton className="h-4 w-48" />
            </div>
          ))}
        </Card>
        <Card className="h-48" />
      </div>
    </Loading>
  )
}

function Oars() {
  return (
    <svg
      viewBox="0 0 120 72"
      className="mb-2 h-20 text-brand"
      fill="none"
      stroke="currentColor"
      strokeWidth="3"
      strokeLinecap="round"
      strokeLinejoin="round"
      aria-hidden="true"
    >
      <circle cx="36" cy="22" r="9" className="fill-brand-soft" />
      <circle cx="84" cy="22" r="9" className="fill-brand-soft" />
      <circle cx="60" cy="16" r="11" className="fill-brand-soft" />
      <path d="M14 52c8-6 16-6 23 0s15 6 23 0 15-6 23 0 15 6 23 0" />
      <path d="M30 66c7-5 13-5 20 0s13 5 20 0 13-5 20 0" strokeOpacity="0.35" />
    </svg>
  )
}
