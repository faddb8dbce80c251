import { useQuery } from '@tanstack/react-query'
import { Link, useRouterState } from '@tanstack/react-router'
import { CalendarCheck2, Database, Settings, Users, Waypoints, type LucideIcon } from 'lucide-react'
import { type ReactNode, useEffect, useRef } from 'react'
import { healthQuery } from '@/api/health'
import type { User } from '@/api/types'
import { cx } from '@/ui/cx'
import { Avatar, Mark } from '@/ui/surface'
import { StatusBanner } from './banner'

type Place = { to: '/' | '/team' | '/settings' | '/admin'; label: string; icon: LucideIcon }

const everybody: readonly Place[] = [
  { to: '/', label: 'Today', icon: CalendarCheck2 },
  { to: '/team', label: 'Team', icon: Users },
  { to: '/settings', label: 'Settings', icon: Settings },
]

const admins: readonly Place[] = [...everybody, { to: '/admin', label: 'Admin', icon: Database }]

/** The frame of every page for people who are signed in: a bar at the side, or below on a phone. */
export function Shell({ me, children }: { me: User; children: ReactNode }) {
  const path = useRouterState({ select: (s) => s.location.pathname })
  // Not before the new page stands there.
  useFocusOnNewPage(useRouterState({ select: (s) => s.resolvedLocation?.pathname ?? s.location.pathname }))
  const health = useQuery(healthQuery)
  const places = me.is_admin ? admins : everybody
  const here = (to: string) => (to === '/' ? path === '/' : path.startsWith(to))

  return (
    <div className="lg:grid lg:grid-cols-[15rem_minmax(0,1fr)]">
      <a
        href="#content"
        className="sr-only z-50 rounded-control bg-brand px-4 py-3 font-semibold text-on-brand focus:not-sr-only focus:fixed focus:top-3 focus:left-3"
      >
        Skip to content
      </a>
      <div className="sticky top-0 hidden h-dvh flex-col gap-8 border-r border-line px-4 py-7 lg:flex">
        <Link to="/" className="flex items-center gap-3 rounded-xl px-2 text-lg font-bold tracking-tight">
          <Mark className="size-8" />
          Crewbeat
        </Link>
        <nav aria-label="Main" className="grid gap-1">
          {places.map((p) => (
            <Link
              key={p.to}
              to={p.to}
              aria-current={here(p.to) ? 'page' : undefined}
              className={cx(
                'flex min-h-11 items-center gap-3 rounded-control px-3 text-[0.9375rem] font-semibold transition-colors',
                here(p.to) ? 'bg-surface text-ink shadow-card ring-1 ring-line' : 'text-ink-2 hover:bg-sunken hover:text-ink',
              )}
            >
              <p.icon aria-hidden="true" className={cx('size-5', here(p.to) && 'text-brand')} />
              {p.label}
            </Link>
          ))}
        </nav>
        <div className="mt-auto grid gap-2">
          {health.data?.traces && (
            <a
              href="/traces"
              className="flex min-h-11 items-center gap-3 rounded-control px-3 text-sm font-medium text-ink-3 hover:bg-sunken hover:text-ink"
            >
              <Waypoints aria-hidden="true" className="size-4.5" />
              Traces
            </a>
          )}
          <hr className="border-line" />
          <Link to="/settings" className="flex min-h-14 items-center gap-3 rounded-control px-3 hover:bg-sunken">
            <Avatar name={me.name} id={me.id} className="size-9" />
            <span className="grid min-w-0">
              <span className="truncate text-sm font-semibold">{me.name}</span>
              <span className="truncate text-xs text-ink-3">{me.email}</span>
            </span>
          </Link>
        </div>
      </div>
      <div className="min-w-0 pb-[calc(5rem+env(safe-area-inset-bottom))] lg:pb-0">
        <StatusBanner />
        <main id="content">{children}</main>
      </div>
      <nav
        aria-label="Main"
        className="fixed inset-x-0 bottom-0 z-20 grid auto-cols-fr grid-flow-col border-t border-line bg-surface/95 pb-[env(safe-area-inset-bottom)] backdrop-blur lg:hidden"
      >
        {places.map((p) => (
          <Link
            key={p.to}
            to={p.to}
            aria-current={here(p.to) ? 'page' : undefined}
            className={cx(
              'grid min-h-16 content-center justify-items-center gap-1 text-xs font-semibold',
              here(p.to) ? 'text-brand' : 'text-ink-3',
            )}
          >
            <span className={cx('rounded-full px-4 py-0.5 transition-colors', here(p.to) && 'bg-brand-soft')}>
              <p.icon aria-hidden="true" className="size-5.5" />
            </span>
            {p.label}
          </Link>
        ))}
      </nav>
    </div>
  )
}

/** A new page is read from its title, as after a click on a plain link. */
function useFocusOnNewPage(path: string) {
  const before = useRef(path)
  useEffect(() => {
    if (before.current === path) return
    before.current = path
    scrollTo(0, 0)
    document.getElementById('page-title')?.focus({ preventScroll: true })
  }, [path])
}
