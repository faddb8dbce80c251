import { type InfiniteData, QueryClient, QueryClientProvider } from '@tanstack/react-query'
import { act, renderHook } from '@testing-library/react'
import type { ReactNode } from 'react'
import { beforeEach, expect, it } from 'vitest'
import { type ActivityPage, activityQuery } from '@/api/teams'
import { Realtime, RealtimeContext } from '@/realtime'
import { anEvent, FakeServer } from '@/test/fake-rt'
import { useLiveTeam } from './live'

const ch = 'team:t:activity'
const line = (n: number, habit = `h${n}`) => ({
  id: `E${n}`,
  user_id: 'u',
  user_name: 'Ana',
  habit_id: habit,
  habit_name: `Habit ${n}`,
  day: '2026-11-22',
  at: '2026-11-22T08:00:00Z',
})
const completed = (n: number) => {
  const { id, at, ...rest } = line(n)
  return anEvent(ch, n, 'member_habit_completed', { ...rest, activity_id: id, completed_at: at })
}

let server: FakeServer
let queryClient: QueryClient
let realtime: Realtime

beforeEach(() => {
  server = new FakeServer()
  queryClient = new QueryClient()
  realtime = new Realtime({ url: () => 'ws://x', open: server.open })
  queryClient.setQueryData<InfiniteData<ActivityPage, string>>(activityQuery('t').queryKey, {
    pages: [{ items: [line(1)], next_before: undefined, position: 'e.1' }],
    pageParams: [''],
  })
})

function follow() {
  const wrapper = ({ children }: { children: ReactNode }) => (
    <QueryClientProvider client={queryClient}>
      <RealtimeContext value={realtime}>{children}</RealtimeContext>
    </QueryClientProvider>
  )
  const hook = renderHook(() => useLiveTeam('t', 'e.1'), { wrapper })
  act(() => {
    realtime.start()
    server.link.hello()
  })
  return hook
}

const ids = () => queryClient.getQueryData(activityQuery('t').queryKey)?.pages.flatMap((p) => p.items.map((i) => i.id))

it('goes on from the position the feed was read at', () => {
  follow()
  expect(server.link.asked()).toEqual([{ ch, since: 'e.1' }])
})

it('puts a tick on top and says it', () => {
  const { result } = follow()
  act(() => server.link.say(completed(2)))
  expect(ids()).toEqual(['E2', 'E1'])
  expect(result.current.said).toBe('Ana ticked Habit 2')
  expect([...result.current.ids]).toEqual(['E2'])
})

it('does not show again what the feed holds already', () => {
  follow()
  act(() => server.link.say(completed(1)))
  expect(ids()).toEqual(['E1'])
})

it('takes away what was taken back, and shows it when it is done once more', () => {
  follow()
  act(() =>
    server.link.say(anEvent(ch, 2, 'member_habit_retracted', { activity_id: 'E1', habit_id: 'h1', user_id: 'u', day: '2026-11-22' })),
  )
  expect(ids()).toEqual([])
  const again = { ...completed(1), id: 'E3', offset: 'e.3', data: { ...completed(1).data, activity_id: 'E3' } }
  act(() => server.link.say(again))
  expect(ids()).toEqual(['E3'])
})

it('does not take the same habit of another day', () => {
  follow()
  act(() =>
    server.link.say(anEvent(ch, 2, 'member_habit_retracted', { activity_id: 'E9', habit_id: 'h1', user_id: 'u', day: '2026-11-21' })),
  )
  expect(ids()).toEqual(['E1'])
})

it('loads everything again when the past cannot be replayed', () => {
  follow()
  act(() => server.link.say({ type: 'reset', ch, reason: 'trimmed', offset: 'f.1' }))
  expect(queryClient.getQueryState(activityQuery('t').queryKey)?.isInvalidated).toBe(true)
})
