/** One thing that the server did not accept in a request. */
export type FieldError = { location: string; message: string }

/** The server's answer to a request it did not carry out (RFC 9457). */
export class Problem extends Error {
  override readonly name = 'Problem'
  readonly status: number
  /** stable; for the program */
  readonly code: string
  readonly fields: readonly FieldError[]

  constructor(status: number, body: unknown) {
    const it: Record<string, unknown> = typeof body === 'object' && body !== null ? { ...body } : {}
    super(text(it.detail) || text(it.title) || `The server answered with status ${status}.`)
    this.status = status
    this.code = text(it.code)
    this.fields = Array.isArray(it.errors) ? it.errors.map(fieldError).filter((f) => f !== undefined) : []
  }
}

/** The server could not be asked at all: no network, or it is not there. */
export class Unreachable extends Error {
  override readonly name = 'Unreachable'
}

function fieldError(value: unknown): FieldError | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  const { location, message } = value as Record<string, unknown>
  return { location: text(location).replace(/^body\.?/, ''), message: text(message) }
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : ''
}

/** Reports whether the same request may succeed later without being changed. */
export function isTemporary(error: unknown): boolean {
  if (error instanceof Unreachable) return true
  return error instanceof Problem && (error.status >= 500 || error.status === 429 || error.status === 408)
}

/** Says to a person what went wrong and what can be done. */
export function explain(error: unknown): string {
  if (error instanceof Unreachable)
    return navigator.onLine
      ? 'Crewbeat did not answer. It may be restarting; try again in a moment.'
      : 'You are offline. Check your connection and try again.'
  if (error instanceof Problem) {
    if (error.status >= 500) return 'Crewbeat had a problem of its own. Nothing you did is lost; try again in a moment.'
    if (error.status === 429) return 'That was a lot in a short time. Wait a minute and try again.'
    if (error.status === 412) return 'This was changed somewhere else in the meantime. Look at the newest version and try again.'
    if (error.fields.length > 0) return sentence(error.fields.map((f) => f.message).join('; '))
    return sentence(error.message)
  }
  return 'Something went wrong on this page. Reload it and try again.'
}

/** What the server said about one field of a form, if it did. */
export function fieldProblem(error: unknown, ...names: string[]): string | undefined {
  if (!(error instanceof Problem)) return undefined
  const found = error.fields.find((f) =>
    names.some((n) => f.location === n || f.location.startsWith(`${n}.`) || f.location.startsWith(`${n}[`)),
  )
  return found && sentence(found.message)
}

function sentence(words: string): string {
  const trimmed = words.trim()
  if (trimmed === '') return ''
  const start = trimmed.charAt(0).toUpperCase() + trimmed.slice(1)
  return /[.!?…]$/.test(start) ? start : `${start}.`
}
