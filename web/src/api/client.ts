import createClient from 'openapi-fetch'
import { Problem, Unreachable } from './problem'
import type { paths } from './schema'

/** Sends a request; tracing puts itself around it. */
export type Send = (request: Request) => Promise<Response>

let around: (request: Request, send: Send) => Promise<Response> = (request, send) => send(request)

/** Puts something around every request from now on, such as a span. */
export function instrument(wrapper: typeof around): void {
  around = wrapper
}

let signedOut: () => void = () => undefined

/** Calls f when the server says that nobody is signed in (any more). */
export function onSignedOut(f: () => void): void {
  signedOut = f
}

/** How long to wait, in ms, before a request that came with a cookie of before is sent again. */
const again = [100, 300, 900]

/**
 * Sends a request; again if the session got a new cookie while it was on its
 * way, which another answer brings. It was not carried out, whatever it was.
 */
async function patiently(request: Request): Promise<Response> {
  for (const pause of again) {
    const answer = await fetch(request.clone())
    if (answer.status !== 401) return answer
    const problem = new Problem(
      401,
      await answer
        .clone()
        .json()
        .catch(() => undefined),
    )
    if (problem.code !== 'session-replaced') return answer
    await new Promise((resume) => setTimeout(resume, pause))
  }
  return fetch(request)
}

/** The API, with the types of its own document. */
export const api = createClient<paths>({
  baseUrl: typeof location === 'undefined' ? '' : location.origin,
  fetch: async (request) => {
    try {
      return await around(request, patiently)
    } catch (cause) {
      if (request.signal.aborted && !(request.signal.reason instanceof DOMException && request.signal.reason.name === 'TimeoutError'))
        throw cause
      throw new Unreachable('the server could not be reached', { cause })
    }
  },
})

type Answer<T> = { data?: T; error?: unknown; response: Response }

/** The body of a good answer; throws a {@link Problem} for any other. */
export async function body<T>(answer: Promise<Answer<T>>): Promise<NonNullable<T>> {
  const { data } = await checked(answer)
  if (data === undefined || data === null) throw new Problem(502, { detail: 'The server sent an empty answer.' })
  return data
}

/** The body of a good answer and the position of a channel before it was read. */
export async function bodyAt<T>(
  channel: string,
  answer: Promise<Answer<T>>,
): Promise<{ value: NonNullable<T>; position: string | undefined }> {
  const { data, response } = await checked(answer)
  if (data === undefined || data === null) throw new Problem(502, { detail: 'The server sent an empty answer.' })
  return { value: data, position: positionOf(channel, response.headers.get('X-Realtime-Position')) }
}

/** Waits for a good answer that has no body. */
export async function done(answer: Promise<Answer<unknown>>): Promise<void> {
  await checked(answer)
}

async function checked<T>(answer: Promise<Answer<T>>): Promise<Answer<T>> {
  const it = await answer
  if (it.response.ok) return it
  const problem = new Problem(it.response.status, it.error)
  if (problem.status === 401) signedOut()
  throw problem
}

/** Reads `<channel>=<offset>`, of which there may be several, apart by commas. */
export function positionOf(channel: string, header: string | null): string | undefined {
  for (const part of (header ?? '').split(',')) {
    const at = part.lastIndexOf('=')
    if (part.slice(0, at).trim() === channel) return part.slice(at + 1).trim()
  }
  return undefined
}

/** The value of If-Match for a version that was read before. */
export function ifMatch(version: number): { 'If-Match': string } {
  return { 'If-Match': `"${version}"` }
}
