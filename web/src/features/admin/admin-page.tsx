import { useQuery, type UseQueryResult } from '@tanstack/react-query'
import type { ReactNode } from 'react'
import { adminAlertsQuery, adminAuditQuery, adminCacheQuery, adminProfileQuery, adminRedisQuery, type AuditEntry } from '@/api/admin'
import { explain } from '@/api/problem'
import { Failed, Loading, PageTitle, Skeleton } from '@/ui/surface'
import { AlertsCard } from './alerts-card'
import { DiagnoseCard } from './diagnose-card'
import { Inspector } from './inspector'
import { Invalidator } from './invalidator'
import { Section, Table } from './parts'
import { ProfileCard } from './profile-card'
import { RedisCard } from './redis-card'
import { ServersCard } from './servers-card'
import { TiersCard } from './tiers-card'
import { moment } from './words'

/** How Redis and the cache are, for those who run the installation. */
export default function AdminPage() {
  const redis = useQuery(adminRedisQuery)
  const cache = useQuery(adminCacheQuery)
  const profile = useQuery(adminProfileQuery)
  const alerts = useQuery(adminAlertsQuery)
  const audit = useQuery(adminAuditQuery)
  return (
    <div className="mx-auto max-w-[84rem] px-4 py-6 sm:px-8 sm:py-10 lg:px-12">
      <div className="grid gap-6">
        <PageTitle>Redis & cache</PageTitle>
        <div className="grid items-start gap-6 xl:grid-cols-2">
          <div className="grid min-w-0 gap-6">
            <Part of={redis} what="The state of Redis">
              {(d) => <RedisCard redis={d} />}
            </Part>
            {redis.data && redis.data.state !== 'off' && <DiagnoseCard />}
            <Part of={alerts} what="Alerts">
              {(d) => <AlertsCard alerts={d.items} watching={d.watching} />}
            </Part>
            {cache.data && <Invalidator cache={cache.data} />}
            <Part of={audit} what="The audit log">
              {(d) => <AuditCard entries={d.items} />}
            </Part>
          </div>
          <div className="grid min-w-0 gap-6">
            <Part of={cache} what="The state of the cache">
              {(d) => (
                <>
                  <TiersCard cache={d} />
                  <Inspector cache={d} />
                </>
              )}
            </Part>
            {redis.data && <ServersCard servers={redis.data.servers} state={redis.data.state} />}
            {redis.data && redis.data.state !== 'off' && (
              <Part of={profile} what="The profile of commands">
                {(d) => <ProfileCard profile={d} node={redis.data.node} />}
              </Part>
            )}
          </div>
        </div>
      </div>
    </div>
  )
}

/** A part of the page in each of its states. What was read stays while it cannot be read again. */
function Part<T>({ of, what, children }: { of: UseQueryResult<T>; what: string; children: (data: T) => ReactNode }) {
  if (of.data !== undefined) return children(of.data)
  if (of.isError)
    return <Failed title={`${what} did not load`} detail={explain(of.error)} onRetry={() => void of.refetch()} busy={of.isFetching} />
  return (
    <Loading label={`Loading: ${what}`} className="grid gap-4">
      <Skeleton className="h-56" />
    </Loading>
  )
}

function AuditCard({ entries }: { entries: readonly AuditEntry[] }) {
  return (
    <Section title="Audit log" hint="What admins have done last. Entries are never changed or removed.">
      {entries.length === 0 ? (
        <p className="text-ink-2">Nothing has been done yet.</p>
      ) : (
        <Table
          label="Audit log"
          head={['When', 'Who', 'What', 'To what', 'From']}
          rows={entries.map((e) => [moment(e.at), e.user_name ?? 'the server', e.action, e.subject, e.ip ?? '–'])}
        />
      )}
    </Section>
  )
}
