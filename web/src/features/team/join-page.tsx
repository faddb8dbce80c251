import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query'
import type { ReactNode } from 'react'
import { explain, Problem } from '@/api/problem'
import { acceptInvite, inviteQuery } from '@/api/teams'
import type { User } from '@/api/types'
import { Button } from '@/ui/button'
import { FormError } from '@/ui/field'
import { Card, Failed, Loading, Mark, PageTitle, Skeleton } from '@/ui/surface'

/** Shows what an invitation is for and lets a person join. */
export function JoinPage({
  token,
  me,
  onJoined,
  signIn,
  home,
}: {
  token: string
  me: User | null
  onJoined: (teamId: string) => void
  /** the ways to become somebody, for whom nobody is signed in */
  signIn: ReactNode
  /** the way on when the invitation is worth nothing */
  home: ReactNode
}) {
  const info = useQuery(inviteQuery(token))
  const queryClient = useQueryClient()
  const join = useMutation({
    mutationFn: () => acceptInvite(token),
    onSuccess: async ({ team }) => {
      await queryClient.invalidateQueries({ queryKey: ['teams'] })
      onJoined(team.id)
    },
  })
  const spent = info.error instanceof Problem && info.error.status < 500

  return (
    <main className="mx-auto grid min-h-dvh w-full max-w-md content-center gap-6 px-5 py-12">
      <Mark className="mx-auto size-12" />
      <Card className="p-7">
        {token === '' || spent ? (
          <div className="grid gap-3 text-center">
            <PageTitle className="!text-2xl">This invitation does not work any more</PageTitle>
            <p className="text-ink-2">It has expired, was withdrawn, or the link is not complete. Ask for a new one.</p>
            <div className="grid pt-3">{home}</div>
          </div>
        ) : info.isPending ? (
          <Loading label="Reading the invitation" className="grid justify-items-center gap-4">
            <Skeleton className="h-4 w-40" />
            <Skeleton className="h-8 w-56" />
            <Skeleton className="h-12 w-full" />
          </Loading>
        ) : info.isError ? (
          <Failed
            title="The invitation did not load"
            detail={explain(info.error)}
            onRetry={() => void info.refetch()}
            busy={info.isFetching}
          />
        ) : (
          <div className="grid gap-5 text-center">
            <div className="grid gap-1.5">
              <p className="text-ink-2">{info.data.inviter_name} invites you to</p>
              <PageTitle>{info.data.team_name}</PageTitle>
            </div>
            {join.isError && <FormError>{explain(join.error)}</FormError>}
            {me ? (
              <>
                <Button look="primary" size="lg" busy={join.isPending} onClick={() => join.mutate()}>
                  Join as {me.name}
                </Button>
                <p className="text-sm text-ink-3">Your team-mates will see your name and the habits you share, nothing else.</p>
              </>
            ) : (
              signIn
            )}
          </div>
        )}
      </Card>
    </main>
  )
}
