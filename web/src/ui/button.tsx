import type { ComponentProps, ReactNode } from 'react'
import { cx } from './cx'

const looks = {
  primary: 'bg-brand text-on-brand hover:bg-brand-strong shadow-card',
  secondary: 'bg-surface text-ink border border-line hover:bg-sunken',
  quiet: 'text-ink-2 hover:bg-sunken hover:text-ink',
  danger: 'bg-danger text-surface hover:opacity-90',
} as const

const sizes = {
  md: 'min-h-11 px-4 text-[0.9375rem]',
  lg: 'min-h-12 px-5 text-base',
  sm: 'min-h-9 px-3 text-sm',
} as const

/** The classes of a button, for links that look like one. */
export function buttonClass(look: keyof typeof looks = 'secondary', size: keyof typeof sizes = 'md'): string {
  return cx(
    'inline-flex items-center justify-center gap-2 rounded-control font-semibold whitespace-nowrap select-none',
    'transition-[background-color,color,opacity,transform] duration-150 active:scale-[0.98]',
    'disabled:opacity-55 disabled:active:scale-100',
    looks[look],
    sizes[size],
  )
}

export type ButtonProps = ComponentProps<'button'> & {
  look?: keyof typeof looks
  size?: keyof typeof sizes
  /** Something is under way: the button keeps its width, says so and takes no more clicks. */
  busy?: boolean
}

/** A button. It is of type "button" unless told otherwise. */
export function Button({ look, size, busy = false, className, children, disabled, ...rest }: ButtonProps) {
  return (
    <button
      type="button"
      {...rest}
      aria-busy={busy || undefined}
      disabled={disabled || busy}
      className={cx(buttonClass(look, size), className)}
    >
      {busy && <Spinner />}
      {children}
    </button>
  )
}

/** A square button that shows only an icon; its label is read and shown on hover. */
export function IconButton({
  label,
  children,
  className,
  ...rest
}: Omit<ComponentProps<'button'>, 'aria-label'> & { label: string; children: ReactNode }) {
  return (
    <button
      type="button"
      {...rest}
      aria-label={label}
      title={label}
      className={cx(
        'inline-flex size-11 shrink-0 items-center justify-center rounded-control text-ink-2 transition-colors',
        'hover:bg-sunken hover:text-ink disabled:opacity-45 disabled:hover:bg-transparent',
        className,
      )}
    >
      {children}
    </button>
  )
}

/** A small turning arc; the words next to it say what is under way. */
export function Spinner() {
  return (
    <svg className="size-4 animate-spin" viewBox="0 0 16 16" fill="none" aria-hidden="true">
      <circle cx="8" cy="8" r="6.5" stroke="currentColor" strokeOpacity="0.3" strokeWidth="2" />
      <path d="M14.5 8A6.5 6.5 0 0 0 8 1.5" stroke="currentColor" strokeWidth="2" strokeLinecap="round" />
    </svg>
  )
}
