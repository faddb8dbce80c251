import { Check } from 'lucide-react'
import { RadioGroup, ToggleGroup } from 'radix-ui'
import type { ReactNode } from 'react'
import { cx } from './cx'

/** A few choices side by side, of which one holds. */
export function Segmented<T extends string>({
  label,
  value,
  onChange,
  options,
}: {
  label: string
  value: T
  onChange: (value: T) => void
  options: readonly { value: T; label: string; icon?: ReactNode }[]
}) {
  return (
    <RadioGroup.Root
      aria-label={label}
      value={value}
      onValueChange={(next) => {
        const found = options.find((o) => o.value === next)
        if (found) onChange(found.value)
      }}
      className="inline-flex w-full gap-1 rounded-control bg-ink/8 p-1"
    >
      {options.map((o) => (
        <RadioGroup.Item
          key={o.value}
          value={o.value}
          className={cx(
            'flex min-h-10 flex-1 items-center justify-center gap-1.5 rounded-lg px-3 text-sm font-semibold text-ink-2 transition-colors hover:text-ink',
            'data-[state=checked]:bg-raised data-[state=checked]:text-ink data-[state=checked]:shadow-card data-[state=checked]:ring-1 data-[state=checked]:ring-line-strong/60',
          )}
        >
          {o.icon}
          {o.label}
        </RadioGroup.Item>
      ))}
    </RadioGroup.Root>
  )
}

/** Choices one under the other, each with a line that explains it; one holds. */
export function RadioCards<T extends string>({
  label,
  value,
  onChange,
  options,
}: {
  label: string
  value: T
  onChange: (value: T) => void
  options: readonly { value: T; label: string; hint?: string; icon?: ReactNode }[]
}) {
  return (
    <RadioGroup.Root
      aria-label={label}
      value={value}
      onValueChange={(next) => {
        const found = options.find((o) => o.value === next)
        if (found) onChange(found.value)
      }}
      className="grid gap-2"
    >
      {options.map((o) => (
        <RadioGroup.Item
          key={o.value}
          value={o.value}
          className={cx(
            'group flex min-h-12 items-center gap-3 rounded-control border border-line px-3.5 py-2.5 text-left transition-colors hover:bg-sunken',
            'data-[state=checked]:border-brand data-[state=checked]:bg-brand-soft',
          )}
        >
          {o.icon && <span className="text-ink-2 group-data-[state=checked]:text-brand [&>svg]:size-5">{o.icon}</span>}
          <span className="grid flex-1">
            <span className="text-[0.9375rem] font-semibold">{o.label}</span>
            {o.hint && <span className="text-[0.8125rem] text-ink-2">{o.hint}</span>}
          </span>
          <span
            aria-hidden="true"
            className="flex size-5 items-center justify-center rounded-full border-2 border-line-strong text-on-brand group-data-[state=checked]:border-brand group-data-[state=checked]:bg-brand"
          >
            <Check className="hidden size-3 group-data-[state=checked]:block" strokeWidth={3.5} />
          </span>
        </RadioGroup.Item>
      ))}
    </RadioGroup.Root>
  )
}

/** Round toggles of which any number may be on, such as the days of a week. */
export function Toggles({
  label,
  value,
  onChange,
  options,
  describedBy,
}: {
  label: string
  value: string[]
  onChange: (value: string[]) => void
  options: readonly { value: string; label: string; long: string }[]
  describedBy?: string | undefined
}) {
  return (
    <ToggleGroup.Root
      type="multiple"
      aria-label={label}
      aria-describedby={describedBy}
      value={value}
      onValueChange={onChange}
      className="flex justify-between gap-1"
    >
      {options.map((o) => (
        <ToggleGroup.Item
          key={o.value}
          value={o.value}
          aria-label={o.long}
          className={cx(
            'size-11 rounded-full border border-line-strong/70 text-sm font-semibold text-ink-2 transition-colors hover:bg-sunken',
            'data-[state=on]:border-brand data-[state=on]:bg-brand data-[state=on]:text-on-brand',
          )}
        >
          {o.label}
        </ToggleGroup.Item>
      ))}
    </ToggleGroup.Root>
  )
}
