import { queryOptions } from '@tanstack/react-query'
import { api, body, done, ifMatch } from './client'
import { Problem } from './problem'
import type { Session, User } from './types'

/** Who is signed in; null for nobody. */
export const meQuery = queryOptions({
  queryKey: ['me'],
  queryFn: async ({ signal }): Promise<User | null> => {
    try {
      return await body(api.GET('/api/v1/me', { signal }))
    } catch (error) {
      if (error instanceof Problem && error.status === 401) return null
      throw error
    }
  },
  staleTime: 60_000,
  // It says what day it is for the person.
  refetchInterval: 5 * 60_000,
})

/** Where the person is signed in. */
export const sessionsQuery = queryOptions({
  queryKey: ['me', 'sessions'],
  queryFn: async ({ signal }): Promise<Session[]> => (await body(api.GET('/api/v1/me/sessions', { signal }))).items,
})

/** Makes an account and signs in. */
export async function register(input: { name: string; email: string; password: string; tz: string }): Promise<User> {
  return (await body(api.POST('/api/v1/auth/register', { body: input }))).user
}

/** Signs in. */
export async function signIn(input: { email: string; password: string }): Promise<User> {
  return (await body(api.POST('/api/v1/auth/login', { body: input }))).user
}

/** Ends this session. */
export function signOut(): Promise<void> {
  return done(api.POST('/api/v1/auth/logout'))
}

/** Changes the person's own settings. */
export function changeMe(me: User, change: { name?: string; tz?: string; day_start_min?: number; week_start?: number }): Promise<User> {
  return body(api.PATCH('/api/v1/me', { params: { header: ifMatch(me.version) }, body: change }))
}

/** Changes the password; every other session ends. */
export function changePassword(input: { current: string; new: string }): Promise<void> {
  return done(api.POST('/api/v1/me/password', { body: input }))
}

/** Ends a session somewhere else. */
export function endSession(id: string): Promise<void> {
  return done(api.DELETE('/api/v1/me/sessions/{id}', { params: { path: { id } } }))
}

/** Ends every session, this one too. */
export function endSessions(): Promise<void> {
  return done(api.DELETE('/api/v1/me/sessions'))
}
