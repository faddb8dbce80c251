import type { ComponentProps, ReactNode } from 'react'
import { Button } from './button'
import { cx } from './cx'

/** A sheet that things lie on. */
export function Card({ className, ...rest }: ComponentProps<'section'>) {
  return <section {...rest} className={cx('rounded-card border border-line bg-surface shadow-card', className)} />
}

/** A grey shape where something is about to be. */
export function Skeleton({ className }: { className?: string }) {
  return <span aria-hidden="true" className={cx('block animate-breathe rounded-lg bg-sunken', className)} />
}

/** Says that a part of the page is on its way; the shapes inside are for the eye only. */
export function Loading({ label, children, className }: { label: string; children: ReactNode; className?: string }) {
  return (
    <div role="status" className={className}>
      <span className="sr-only">{label}</span>
      {children}
    </div>
  )
}

/** Nothing here yet: what this place is for, and the first thing to do. */
export function Empty({ art, title, children, action }: { art?: ReactNode; title: string; children: ReactNode; action?: ReactNode }) {
  return (
    <div className="mx-auto grid max-w-md justify-items-center gap-3 px-6 py-14 text-center">
      {art}
      <h2 className="text-xl font-bold">{title}</h2>
      <p className="text-ink-2">{children}</p>
      {action && <div className="pt-3">{action}</div>}
    </div>
  )
}

/** Something could not be had: what happened, and a way to try again. */
export function Failed({ title, detail, onRetry, busy = false }: { title: string; detail: string; onRetry?: () => void; busy?: boolean }) {
  return (
    <div role="alert" className="mx-auto grid max-w-md justify-items-center gap-3 px-6 py-14 text-center">
      <svg viewBox="0 0 64 64" className="size-16 text-ink-3" fill="none" aria-hidden="true">
        <circle cx="32" cy="32" r="30" className="fill-sunken" />
        <path
          d="M14 34h9l6-13 7 24 5-11h9"
          stroke="currentColor"
          strokeWidth="3"
          strokeLinecap="round"
          strokeLinejoin="round"
          strokeDasharray="4 5"
        />
      </svg>
      <h2 className="text-xl font-bold">{title}</h2>
      <p className="text-ink-2">{detail}</p>
      {onRetry && (
        <div className="pt-3">
          <Button look="primary" onClick={onRetry} busy={busy}>
            Try again
          </Button>
        </div>
      )}
    </div>
  )
}

const hues = ['teal', 'blue', 'violet', 'rose', 'coral', 'amber', 'green'] as const

/** The same colour for the same text, always. */
export function hueOf(text: string): (typeof hues)[number] {
  let sum = 0
  for (const char of text) sum = (sum * 31 + (char.codePointAt(0) ?? 0)) % 9973
  return hues[sum % hues.length] ?? 'teal'
}

/** A person's initials on their colour. The name stands next to it, so it is not read. */
export function Avatar({ name, id, className }: { name: string; id: string; className?: string }) {
  const words = name.trim().split(/\s+/)
  const initials = ((words[0]?.[0] ?? '?') + (words.length > 1 ? (words.at(-1)?.[0] ?? '') : '')).toUpperCase()
  return (
    <span
      aria-hidden="true"
      data-hue={hueOf(id)}
      className={cx('inline-grid size-10 shrink-0 place-items-center rounded-full bg-hue-soft text-sm font-bold text-hue', className)}
    >
      {initials}
    </span>
  )
}

/** The name of the page, at its top; takes the focus when the page changes. */
export function PageTitle({ children, className }: { children: ReactNode; className?: string }) {
  return (
    <h1
      id="page-title"
      tabIndex={-1}
      className={cx('text-[1.75rem] leading-tight font-bold tracking-tight outline-none sm:text-4xl', className)}
    >
      {children}
    </h1>
  )
}

/** Crewbeat's mark. */
export function Mark({ className }: { className?: string }) {
  return (
    <svg viewBox="0 0 32 32" className={cx('text-brand', className)} aria-hidden="true">
      <rect width="32" height="32" rx="9" fill="currentColor" />
      <path
        d="M6.5 17h4l3-7.5 5 13 3-5.5h4"
        fill="none"
        className="stroke-on-brand"
        strokeWidth="2.6"
        strokeLinecap="round"
        strokeLinejoin="round"
      />
    </svg>
  )
}
