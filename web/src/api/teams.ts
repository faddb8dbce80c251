import { infiniteQueryOptions, queryOptions } from '@tanstack/react-query'
import { api, body, bodyAt, done } from './client'
import type { Activity, Invite, InviteInfo, Membership, NewInvite, TeamDetail } from './types'

/** The person's teams, by name. */
export const teamsQuery = queryOptions({
  queryKey: ['teams'],
  queryFn: async ({ signal }): Promise<Membership[]> => (await body(api.GET('/api/v1/teams', { signal }))).items,
})

/** A team with its members. */
export function teamQuery(id: string) {
  return queryOptions({
    queryKey: ['teams', id],
    queryFn: ({ signal }): Promise<TeamDetail> => body(api.GET('/api/v1/teams/{id}', { params: { path: { id } }, signal })),
  })
}

/** The channel of what happens in a team. */
export function activityChannel(teamId: string): string {
  return `team:${teamId}:activity`
}

export type ActivityPage = { items: Activity[]; next_before: string | undefined; position: string | undefined }

/** A team's feed, newest first, page by page. */
export function activityQuery(teamId: string) {
  return infiniteQueryOptions({
    queryKey: ['teams', teamId, 'activity'],
    queryFn: async ({ pageParam, signal }): Promise<ActivityPage> => {
      const query = { limit: 30, ...(pageParam === '' ? {} : { before: pageParam }) }
      const answer = api.GET('/api/v1/teams/{id}/activity', { params: { path: { id: teamId }, query }, signal })
      const { value, position } = await bodyAt(activityChannel(teamId), answer)
      return { items: value.items, next_before: value.next_before || undefined, position }
    },
    initialPageParam: '',
    getNextPageParam: (last) => last.next_before,
  })
}

/** Invitations that can still be used. */
export function invitesQuery(teamId: string) {
  return queryOptions({
    queryKey: ['teams', teamId, 'invites'],
    queryFn: async ({ signal }): Promise<Invite[]> =>
      (await body(api.GET('/api/v1/teams/{id}/invites', { params: { path: { id: teamId } }, signal }))).items,
  })
}

/** What an invitation is for. Asked by POST, so that its token is in no address. */
export function inviteQuery(token: string) {
  return queryOptions({
    queryKey: ['invite', token],
    enabled: token !== '',
    queryFn: ({ signal }): Promise<InviteInfo> => body(api.POST('/api/v1/invites/lookup', { body: { token }, signal })),
    staleTime: 60_000,
    retry: false,
  })
}

/** Founds a team; its founder owns it. */
export function createTeam(input: { name: string }): Promise<TeamDetail> {
  return body(api.POST('/api/v1/teams', { body: input }))
}

/** Makes a link with which people can join. Its token is shown only now. */
export function invite(teamId: string, input: { role: NewInvite['role']; expires_in_days: number }): Promise<NewInvite> {
  return body(api.POST('/api/v1/teams/{id}/invites', { params: { path: { id: teamId } }, body: input }))
}

/** Makes an invitation worthless. */
export function revokeInvite(teamId: string, inviteId: string): Promise<void> {
  return done(api.DELETE('/api/v1/teams/{id}/invites/{invite_id}', { params: { path: { id: teamId, invite_id: inviteId } } }))
}

/** Joins the team that an invitation is for. */
export function acceptInvite(token: string): Promise<TeamDetail> {
  return body(api.POST('/api/v1/invites/accept', { body: { token } }))
}

/** Takes a person out of a team: oneself, or by an owner or manager. */
export function removeMember(teamId: string, userId: string): Promise<void> {
  return done(api.DELETE('/api/v1/teams/{id}/members/{user_id}', { params: { path: { id: teamId, user_id: userId } } }))
}
