import { useMutation, useQuery } from '@tanstack/react-query'
import {
  createRootRouteWithContext,
  createRoute,
  createRouter,
  Link,
  Navigate,
  Outlet,
  redirect,
  useLocation,
  useNavigate,
  useRouteContext,
  useRouter,
} from '@tanstack/react-router'
import { lazy, Suspense, useEffect, useState } from 'react'
import { isDay } from '@/api/day'
import { meQuery, signOut } from '@/api/me'
import { inviteQuery } from '@/api/teams'
import { explain } from '@/api/problem'
import type { Habit, User } from '@/api/types'
import { RegisterPage } from '@/features/auth/register-page'
import { SignInPage } from '@/features/auth/sign-in-page'
import { ArchiveDialog } from '@/features/habits/archive-dialog'
import { FirstHabit } from '@/features/habits/first-habit'
import { HabitDialog } from '@/features/habits/habit-dialog'
import { SettingsPage } from '@/features/settings/settings-page'
import { JoinPage } from '@/features/team/join-page'
import { CrewPulse } from '@/features/team/pulse'
import { TeamPage } from '@/features/team/team-page'
import { TodayPage } from '@/features/today/today-page'
import { useChannel } from '@/realtime'
import { buttonClass } from '@/ui/button'
import { Empty, Failed, Loading, Mark, Skeleton } from '@/ui/surface'
import { toast, Toasts } from '@/ui/toast'
import { part } from './part'
import { pendingInvite } from './pending-invite'
import { forget, type Runtime } from './runtime'
import { Shell } from './shell'
import { setTheme, useTheme } from './theme'

const link = 'font-semibold text-brand underline underline-offset-4'

const root = createRootRouteWithContext<Runtime>()({
  component: () => (
    <>
      <Outlet />
      <Toasts />
    </>
  ),
  notFoundComponent: () => (
    <main className="grid min-h-dvh content-center">
      <Empty
        title="There is nothing here"
        action={
          <Link to="/" className={buttonClass('primary', 'lg')}>
            Go to Today
          </Link>
        }
      >
        The address may be mistyped, or what it led to is gone.
      </Empty>
    </main>
  ),
  errorComponent: function NotLoaded({ error }) {
    const router = useRouter()
    return (
      <main className="grid min-h-dvh content-center">
        <Failed title="Crewbeat did not load" detail={explain(error)} onRetry={() => void router.invalidate()} />
      </main>
    )
  },
  pendingComponent: () => (
    <div role="status" className="grid min-h-dvh place-items-center">
      <Mark className="size-14 animate-breathe" />
      <span className="sr-only">Loading Crewbeat</span>
    </div>
  ),
})

function useTitle(title: string) {
  useEffect(() => {
    document.title = `${title} · Crewbeat`
  }, [title])
}

/** Where to go after signing in: back to the invitation, or to where the person wanted to be. */
function useEnter() {
  const navigate = useNavigate()
  const { queryClient } = useRouteContext({ from: '__root__' })
  return (user: User, otherwise: string) => {
    queryClient.setQueryData(meQuery.queryKey, user)
    const token = pendingInvite.get()
    if (token) void navigate({ to: '/join', hash: token })
    else void navigate({ href: otherwise, replace: true })
  }
}

const login = createRoute({
  getParentRoute: () => root,
  path: '/login',
  validateSearch: (search): { next?: string } =>
    // Only a path of this page: never away to another site.
    typeof search.next === 'string' && /^\/(?![/\\])/.test(search.next) ? { next: search.next } : {},
  component: function Login() {
    useTitle('Sign in')
    const { next } = login.useSearch()
    const enter = useEnter()
    return (
      <SignInPage
        onSignedIn={(user) => enter(user, next ?? '/')}
        toRegister={
          <Link to="/register" className={link}>
            Create an account
          </Link>
        }
      />
    )
  },
})

const registration = createRoute({
  getParentRoute: () => root,
  path: '/register',
  component: function Register() {
    useTitle('Create an account')
    const enter = useEnter()
    return (
      <RegisterPage
        onRegistered={(user) => enter(user, '/welcome')}
        toSignIn={
          <Link to="/login" className={link}>
            Sign in
          </Link>
        }
      />
    )
  },
})

const join = createRoute({
  getParentRoute: () => root,
  path: '/join',
  loader: ({ context }) => context.queryClient.ensureQueryData(meQuery),
  component: function Join() {
    useTitle('Invitation')
    const token = useLocation({ select: (l) => l.hash })
    const me = useQuery(meQuery).data ?? null
    const navigate = useNavigate()
    const works = useQuery(inviteQuery(token)).isSuccess
    useEffect(() => {
      if (works && !me) pendingInvite.set(token)
    }, [works, token, me])
    return (
      <JoinPage
        token={token}
        me={me}
        onJoined={(teamId) => {
          pendingInvite.clear()
          toast({ text: 'Welcome aboard' })
          void navigate({ to: '/team/$teamId', params: { teamId }, replace: true })
        }}
        home={
          <Link to="/" className={buttonClass('primary', 'lg')}>
            Go to Crewbeat
          </Link>
        }
        signIn={
          <div className="grid gap-3">
            <Link to="/register" className={buttonClass('primary', 'lg')}>
              Create an account
            </Link>
            <Link to="/login" className={buttonClass('secondary', 'lg')}>
              I have an account
            </Link>
          </div>
        }
      />
    )
  },
})

/** Everything for people who are signed in. */
const inside = createRoute({
  getParentRoute: () => root,
  id: 'inside',
  beforeLoad: async ({ context, location }) => {
    const me = await context.queryClient.ensureQueryData(meQuery)
    if (!me) throw redirect({ to: '/login', search: location.href === '/' ? {} : { next: location.href } })
  },
  component: function Inside() {
    const { data: me } = useQuery(meQuery)
    return me ? <SignedIn key={me.id} me={me} /> : <Navigate to="/login" replace />
  },
})

function SignedIn({ me }: { me: User }) {
  const { realtime, ticks, queryClient } = useRouteContext({ from: '__root__' })
  useEffect(() => {
    realtime.start(me.id)
    void ticks.start(me.id)
    return () => {
      realtime.stop()
      ticks.stop()
    }
  }, [realtime, ticks, me.id])
  const reload = () => {
    void queryClient.invalidateQueries({ queryKey: meQuery.queryKey })
    void queryClient.invalidateQueries({ queryKey: ['teams'] }) // one may have been joined elsewhere
  }
  useChannel(`user:${me.id}:session`, undefined, { onEvent: reload, onReset: reload })
  return <Outlet />
}

/** The person who is signed in; only inside. */
function useMe(): User {
  const { data } = useQuery(meQuery)
  if (!data) throw new Error('useMe: nobody is signed in')
  return data
}

const welcome = createRoute({
  getParentRoute: () => inside,
  path: '/welcome',
  component: function Welcome() {
    useTitle('Welcome')
    const me = useMe()
    const navigate = useNavigate()
    return <FirstHabit me={me} onDone={() => void navigate({ to: '/', replace: true })} />
  },
})

const framed = createRoute({
  getParentRoute: () => inside,
  id: 'framed',
  component: function Framed() {
    const { data: me } = useQuery(meQuery)
    return (
      me && (
        <Shell me={me}>
          <Outlet />
        </Shell>
      )
    )
  },
})

const today = createRoute({
  getParentRoute: () => framed,
  path: '/',
  validateSearch: (search): { week?: string } => (typeof search.week === 'string' && isDay(search.week) ? { week: search.week } : {}),
  component: function Today() {
    useTitle('Today')
    const me = useMe()
    const { week } = today.useSearch()
    const navigate = useNavigate()
    const [form, setForm] = useState<{ habit?: Habit }>()
    const [archiving, setArchiving] = useState<Habit>()
    return (
      <>
        <TodayPage
          me={me}
          day={week}
          onDay={(day) => void navigate({ to: '/', search: day === undefined ? {} : { week: day } })}
          onNew={() => setForm({})}
          onEdit={(habit) => setForm({ habit })}
          onArchive={setArchiving}
          aside={
            <CrewPulse
              me={me}
              linkTo={(teamId, label) => (
                <Link
                  to="/team/$teamId"
                  params={{ teamId }}
                  className="inline-flex min-h-11 shrink-0 items-center text-sm font-semibold text-brand hover:underline"
                >
                  {label}
                </Link>
              )}
            />
          }
        />
        <HabitDialog me={me} habit={form?.habit} open={form !== undefined} onClose={() => setForm(undefined)} />
        <ArchiveDialog habit={archiving} onClose={() => setArchiving(undefined)} />
      </>
    )
  },
})

const teams = createRoute({
  getParentRoute: () => framed,
  path: '/team',
  component: () => <Teams teamId={undefined} />,
})

const team = createRoute({
  getParentRoute: () => framed,
  path: '/team/$teamId',
  component: function Team() {
    return <Teams teamId={team.useParams().teamId} />
  },
})

function Teams({ teamId }: { teamId: string | undefined }) {
  useTitle('Team')
  const me = useMe()
  const navigate = useNavigate()
  return (
    <TeamPage
      me={me}
      teamId={teamId}
      onTeam={(id) => void (id === undefined ? navigate({ to: '/team' }) : navigate({ to: '/team/$teamId', params: { teamId: id } }))}
    />
  )
}

const settings = createRoute({
  getParentRoute: () => framed,
  path: '/settings',
  component: function Settings() {
    useTitle('Settings')
    const me = useMe()
    const theme = useTheme()
    const runtime = useRouteContext({ from: '__root__' })
    const navigate = useNavigate()
    const leave = useMutation({
      mutationFn: signOut,
      onSuccess: async () => {
        await navigate({ to: '/login', replace: true })
        forget(runtime)
      },
      onError: (error) => toast({ tone: 'bad', text: explain(error) }),
    })
    return <SettingsPage me={me} theme={theme} onTheme={setTheme} onSignOut={() => leave.mutate()} signingOut={leave.isPending} />
  },
})

const AdminPage = lazy(() => part(() => import('@/features/admin/admin-page')))

const admin = createRoute({
  getParentRoute: () => framed,
  path: '/admin',
  component: function Admin() {
    useTitle('Redis & cache')
    const me = useMe()
    if (!me.is_admin)
      return (
        <Empty title="For admins only">
          Only those who run this installation see this page. Whoever has set it up can make you one of them.
        </Empty>
      )
    return (
      <Suspense
        fallback={
          <Loading label="Loading the page" className="px-4 py-6 sm:px-8 sm:py-10 lg:px-12">
            <Skeleton className="h-11 w-64" />
          </Loading>
        }
      >
        <AdminPage />
      </Suspense>
    )
  },
})

const tree = root.addChildren([
  login,
  registration,
  join,
  inside.addChildren([welcome, framed.addChildren([today, teams, team, settings, admin])]),
])

/** The pages and their addresses. */
export function createPageRouter(runtime: Runtime) {
  return createRouter({
    routeTree: tree,
    context: runtime,
    defaultPendingMs: 150,
    defaultPendingMinMs: 0,
    scrollRestoration: false,
  })
}

declare module '@tanstack/react-router' {
  interface Register {
    router: ReturnType<typeof createPageRouter>
  }
}
