import { act, render, screen } from '@testing-library/react'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { activityChannel } from '@/api/teams'
import type { Member } from '@/api/types'
import { Realtime, RealtimeContext } from '@/realtime'
import { FakeServer } from '@/test/fake-rt'
import { HereNow, useHere } from './here'

const names = ['Ana Silva', 'Ben Okoro', 'Cy Ito', 'Di Roth', 'Ed Lam', 'Fay Wu', 'Gus Ek']
const members = names.map((name, i) => ({ user_id: `u${i}`, name, role: 'member' }) as Member)

let server: FakeServer
let realtime: Realtime

beforeEach(() => {
  vi.useFakeTimers()
  server = new FakeServer()
  realtime = new Realtime({ url: () => 'ws://x', open: server.open, random: () => 1 })
  realtime.follow(activityChannel('t'), 'e.1', { onEvent: () => undefined, onReset: () => undefined })
  realtime.start()
  server.link.hello()
})
afterEach(() => {
  realtime.stop()
  vi.useRealTimers()
})

function Team() {
  return <HereNow members={members} here={useHere('t')} me="u0" />
}

const show = () =>
  render(
    <RealtimeContext value={realtime}>
      <Team />
    </RealtimeContext>,
  )
const say = (m: object) => act(() => server.link.say({ type: 'presence', ch: activityChannel('t'), ...m }))

it('says nothing before it knows', () => {
  const { container } = show()
  expect(container.textContent).toBe('')
})

it('names who is here in words, as they come and go', () => {
  const { container } = show()
  say({ users: ['u0'], count: 1 })
  screen.getByText(/^Only you are here now/)
  say({ joined: ['u1', 'stranger'], left: [], count: 3 })
  expect(container.querySelector('p')?.textContent).toBe('2 here now: you, Ben Okoro')
  say({ joined: [], left: ['u1'], count: 2 })
  screen.getByText(/^Only you are here now/)
})

it('shows five faces at most, and how many more there are', () => {
  const { container } = show()
  say({ users: members.map((m) => m.user_id), count: 7 })
  expect(container.querySelectorAll('[data-hue]')).toHaveLength(5)
  expect(container.textContent).toContain('+2')
})

it('keeps still over a short cut, and takes back what may not be true after a longer one', () => {
  const { container } = show()
  say({ users: ['u0', 'u1'], count: 2 })
  for (let i = 0; i < 2; i++) {
    act(() => server.link.fall(1006))
    expect(container.textContent).toContain('2 here now')
    act(() => vi.advanceTimersByTime(1000))
  }
  act(() => server.link.fall(1006))
  expect(container.textContent).toBe('')
})
