import { queryOptions } from '@tanstack/react-query'
import { api, body, done } from './client'
import type { components } from './schema'

type Schemas = components['schemas']

export type AdminAlert = Schemas['AlertAlert']
export type AdminCache = Schemas['AdminCache']
export type AdminRedis = Schemas['AdminRedis']
export type Area = Diagnosis['findings'][number]['area']
export type Diagnosis = Schemas['AdminDiagnosis']
export type Finding = Schemas['DiagnoseFinding']
export type RedisNode = Schemas['MonitorNode']
export type RedisProfile = Schemas['ProfileReport']
export type AuditEntry = Schemas['AdminEntry']
export type CacheInvalidation = Schemas['CacheInvalidation']
export type Inspection = Schemas['TieredInspection']
export type Sample = Schemas['AdminSample']

// Looked at while somebody looks: a page in the background asks nothing.
const watched = { refetchInterval: 5_000, refetchIntervalInBackground: false, staleTime: 4_000 } as const

/** How Redis is, as the process that answers sees it. */
export const adminRedisQuery = queryOptions({
  queryKey: ['admin', 'redis'],
  queryFn: ({ signal }) => body(api.GET('/api/v1/admin/redis', { signal })),
  ...watched,
})

/** What the commands of the process that answers took. */
export const adminProfileQuery = queryOptions({
  queryKey: ['admin', 'profile'],
  queryFn: ({ signal }) => body(api.GET('/api/v1/admin/redis/profile', { signal })),
  ...watched,
})

/** How the cache of the process that answers is, with its last hour. */
export const adminCacheQuery = queryOptions({
  queryKey: ['admin', 'cache'],
  queryFn: ({ signal }) => body(api.GET('/api/v1/admin/cache', { signal })),
  ...watched,
})

/** Alerts, those that fire first. */
export const adminAlertsQuery = queryOptions({
  queryKey: ['admin', 'alerts'],
  queryFn: ({ signal }) => body(api.GET('/api/v1/admin/alerts', { signal, params: { query: { limit: 20 } } })),
  ...watched,
})

/** The last things that admins have done. */
export const adminAuditQuery = queryOptions({
  queryKey: ['admin', 'audit'],
  queryFn: ({ signal }) => body(api.GET('/api/v1/admin/audit', { signal, params: { query: { limit: 10 } } })),
  ...watched,
})

/** What both tiers hold for a key; never the value. */
export function inspectKey(namespace: string, key: string): Promise<Inspection> {
  return body(api.GET('/api/v1/admin/cache/inspect', { params: { query: { namespace, key } } }))
}

/** Drops what is cached, everywhere. It is noted in the audit log. */
export function invalidate(what: CacheInvalidation): Promise<Schemas['AdminInvalidated']> {
  return body(api.POST('/api/v1/admin/cache/invalidate', { body: what }))
}

/** Says that the person has seen an alert that fires. */
export function acknowledge(id: string): Promise<void> {
  return done(api.POST('/api/v1/admin/alerts/{id}/acknowledge', { params: { path: { id } } }))
}

/** Looks for what is wrong in an area of Redis, at most a quarter of a minute. */
export function diagnoseRedis(area: Area): Promise<Diagnosis> {
  return body(api.GET('/api/v1/admin/redis/diagnose/{area}', { params: { path: { area } } }))
}

/** Begins the profile of the process that answers anew. It is noted in the audit log. */
export function resetRedisProfile(): Promise<void> {
  return done(api.POST('/api/v1/admin/redis/profile/reset'))
}
