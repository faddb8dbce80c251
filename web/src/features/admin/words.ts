/** An amount of memory for people. */
export function bytes(n: number): string {
  if (n < 1024) return `${n} B`
  if (n < 1024 * 1024) return `${(n / 1024).toFixed(1)} KiB`
  if (n < 1024 ** 3) return `${(n / 1024 ** 2).toFixed(1)} MiB`
  return `${(n / 1024 ** 3).toFixed(2)} GiB`
}

/** A span of time for people, from nanoseconds. */
export function span(ns: number): string {
  const ms = ns / 1e6
  if (ms < 1) return `${Math.round(ns / 1e3)} µs`
  if (ms < 1000) return `${Math.round(ms)} ms`
  const s = ms / 1000
  if (s < 100) return `${s.toFixed(1)} s`
  if (s < 6000) return `${Math.round(s / 60)} min`
  return `${Math.round(s / 3600)} h`
}

/** A part of a whole for people; a dash where there is no whole. */
export function percent(part: number, whole: number): string {
  return whole > 0 ? `${((100 * part) / whole).toFixed(1)} %` : '–'
}

/** The time of day of an instant, in the browser's zone. */
export function clock(at: string): string {
  return new Date(at).toLocaleTimeString(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit' })
}

/** Day and time of an instant, in the browser's zone. */
export function moment(at: string): string {
  return new Date(at).toLocaleString(undefined, { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' })
}

/** A span of time for people, from milliseconds, with as many digits as tell something. */
export function millis(ms: number): string {
  return ms < 100 ? `${ms.toFixed(2)} ms` : span(ms * 1e6)
}
