// @vitest-environment jsdom
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { api, done, onSignedOut } from './client'
import { Problem } from './problem'

const problem = (code: string, status = 401) =>
  new Response(JSON.stringify({ status, code, detail: code }), { status, headers: { 'Content-Type': 'application/problem+json' } })

describe('a request whose session got a new cookie meanwhile', () => {
  const sent = vi.fn<(request: Request) => Promise<Response>>()
  const signedOut = vi.fn()
  beforeEach(() => {
    vi.useFakeTimers()
    vi.stubGlobal('fetch', sent)
    onSignedOut(signedOut)
  })
  afterEach(() => {
    vi.useRealTimers()
    vi.unstubAllGlobals()
    vi.resetAllMocks()
  })
  const change = () => done(api.PATCH('/api/v1/me', { params: { header: { 'If-Match': '"1"' } }, body: { name: 'Mira' } }))

  it('is sent again, whole, with the new one', async () => {
    const bodies: string[] = []
    sent.mockImplementation(async (request) => {
      bodies.push(await request.text())
      return bodies.length < 3 ? problem('session-replaced') : new Response('{}', { headers: { 'Content-Type': 'application/json' } })
    })
    const answer = change()
    await vi.runAllTimersAsync()
    await answer
    expect(bodies).toEqual(Array(3).fill('{"name":"Mira"}'))
    expect(signedOut).not.toHaveBeenCalled()
  })

  it('is given up after four times', async () => {
    sent.mockImplementation(async () => problem('session-replaced'))
    const answer = change().catch((error: unknown) => error)
    await vi.runAllTimersAsync()
    expect(await answer).toBeInstanceOf(Problem)
    expect(sent).toHaveBeenCalledTimes(4)
    expect(signedOut).toHaveBeenCalledTimes(1)
  })

  it.each([
    ['nobody is signed in', 'unauthenticated', 401],
    ['it is refused otherwise', 'session-replaced', 403],
  ])('is sent once if %s', async (_, code, status) => {
    sent.mockImplementation(async () => problem(code, status))
    const answer = change().catch((error: unknown) => error)
    await vi.runAllTimersAsync()
    expect(await answer).toBeInstanceOf(Problem)
    expect(sent).toHaveBeenCalledTimes(1)
  })
})
