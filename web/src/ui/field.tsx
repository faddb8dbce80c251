import { ChevronDown, CircleAlert } from 'lucide-react'
import { type ComponentProps, type ReactNode, useId } from 'react'
import { cx } from './cx'

const box = cx(
  'w-full rounded-control border border-line-strong/70 bg-surface px-3.5 text-base text-ink',
  'placeholder:text-ink-3 hover:border-line-strong',
  'focus-visible:border-brand focus-visible:outline-offset-0',
  'aria-invalid:border-danger disabled:opacity-60',
)

type Wrapped = {
  label: string
  /** Says what is good to know, always. */
  hint?: ReactNode
  /** Says what is wrong and what to enter instead. */
  error?: string | undefined
}

function Wrap({ id, label, hint, error, children }: Wrapped & { id: string; children: ReactNode }) {
  return (
    <div className="grid content-start gap-1.5">
      <label htmlFor={id} className="text-sm font-semibold text-ink">
        {label}
      </label>
      {children}
      {hint && !error && (
        <p id={`${id}-hint`} className="text-[0.8125rem] text-ink-3">
          {hint}
        </p>
      )}
      {error && (
        <p id={`${id}-error`} className="flex items-start gap-1.5 text-[0.8125rem] font-medium text-danger">
          <CircleAlert aria-hidden="true" className="mt-0.5 size-3.5 shrink-0" />
          {error}
        </p>
      )}
    </div>
  )
}

function describedBy(id: string, hint: ReactNode, error: string | undefined): string | undefined {
  if (error) return `${id}-error`
  return hint ? `${id}-hint` : undefined
}

/** A labelled line of text. */
export function TextField({ label, hint, error, className, ...rest }: ComponentProps<'input'> & Wrapped) {
  const id = useId()
  return (
    <Wrap id={id} label={label} hint={hint} error={error}>
      <input
        {...rest}
        id={id}
        aria-invalid={error ? true : undefined}
        aria-describedby={describedBy(id, hint, error)}
        className={cx(box, 'h-12', className)}
      />
    </Wrap>
  )
}

/** A labelled choice out of many: the system's own list, which every phone does best. */
export function SelectField({ label, hint, error, className, children, ...rest }: ComponentProps<'select'> & Wrapped) {
  const id = useId()
  return (
    <Wrap id={id} label={label} hint={hint} error={error}>
      <span className="relative grid">
        <select
          {...rest}
          id={id}
          aria-invalid={error ? true : undefined}
          aria-describedby={describedBy(id, hint, error)}
          className={cx(box, 'h-12 appearance-none pr-10', className)}
        >
          {children}
        </select>
        <ChevronDown aria-hidden="true" className="pointer-events-none absolute top-4 right-3.5 size-4 text-ink-3" />
      </span>
    </Wrap>
  )
}

/** What went wrong with a form as a whole; read out when it appears. */
export function FormError({ children }: { children: ReactNode }) {
  return (
    <div role="alert" className="flex gap-2.5 rounded-control bg-danger-soft px-3.5 py-3 text-sm text-danger">
      <CircleAlert aria-hidden="true" className="mt-0.5 size-4 shrink-0" />
      <div>{children}</div>
    </div>
  )
}
