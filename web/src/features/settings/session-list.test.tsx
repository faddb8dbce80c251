// @vitest-environment jsdom
import { QueryClient, QueryClientProvider } from '@tanstack/react-query'
import { fireEvent, render, screen, waitFor } from '@testing-library/react'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { meQuery } from '@/api/me'
import { SessionList } from './session-list'

const session = (id: string, current: boolean) => ({
  id,
  current,
  user_agent: current ? 'Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0' : 'Mozilla/5.0 (iPhone) Safari/605',
  ip: '192.0.2.1',
  created_at: '2026-11-22T10:00:00Z',
  last_seen_at: '2026-11-22T10:00:00Z',
})

/** A server that knows some sessions and how to end them all. */
function serve(sessions: ReturnType<typeof session>[], end: () => Response) {
  const asked: string[] = []
  vi.stubGlobal('fetch', async (request: Request) => {
    const { pathname } = new URL(request.url)
    asked.push(`${request.method} ${pathname}`)
    if (request.method === 'DELETE') return end()
    return new Response(JSON.stringify(pathname.endsWith('/me/sessions') ? { items: sessions } : {}), {
      headers: { 'Content-Type': 'application/json' },
    })
  })
  const client = new QueryClient({ defaultOptions: { queries: { retry: false } } })
  const forgotten = vi.spyOn(client, 'invalidateQueries')
  render(
    <QueryClientProvider client={client}>
      <SessionList />
    </QueryClientProvider>,
  )
  return { asked, forgotten }
}

afterEach(() => vi.unstubAllGlobals())

describe('signing out everywhere', () => {
  it('ends all sessions at a press, and asks anew who is signed in', async () => {
    const { asked, forgotten } = serve([session('a', true), session('b', false)], () => new Response(null, { status: 204 }))
    fireEvent.click(await screen.findByRole('button', { name: 'Sign out everywhere' }))
    await waitFor(() => expect(asked).toContain('DELETE /api/v1/me/sessions'))
    await waitFor(() => expect(forgotten).toHaveBeenCalledWith({ queryKey: meQuery.queryKey, exact: true }))
  })

  it('is not offered where there is one session only', async () => {
    serve([session('a', true)], () => new Response(null, { status: 204 }))
    await screen.findByText('This one, in use now', { exact: false })
    expect(screen.queryByRole('button', { name: 'Sign out everywhere' })).toBeNull()
  })

  it('leaves things as they are if it fails', async () => {
    const { asked, forgotten } = serve([session('a', true), session('b', false)], () => {
      return new Response(JSON.stringify({ status: 503, code: 'busy', detail: 'later' }), { status: 503 })
    })
    fireEvent.click(await screen.findByRole('button', { name: 'Sign out everywhere' }))
    await waitFor(() => expect(asked).toContain('DELETE /api/v1/me/sessions'))
    await waitFor(() => expect(screen.getByRole('button', { name: 'Sign out everywhere' })).toHaveProperty('disabled', false))
    expect(forgotten).not.toHaveBeenCalled()
  })
})
