import type { ReactNode } from 'react'
import { cx } from './cx'

/** A circle that fills clockwise. What it stands for is said by `label`. */
export function Ring({
  value,
  label,
  size = 44,
  width = 4,
  className,
  children,
}: {
  /** 0 to 1 */
  value: number
  label: string
  size?: number
  width?: number
  className?: string
  children?: ReactNode
}) {
  const radius = (size - width) / 2
  const around = 2 * Math.PI * radius
  const full = Math.min(1, Math.max(0, value))
  return (
    <span role="img" aria-label={label} className={cx('relative inline-grid place-items-center', className)}>
      <svg width={size} height={size} viewBox={`0 0 ${size} ${size}`} aria-hidden="true" className="-rotate-90">
        <circle cx={size / 2} cy={size / 2} r={radius} fill="none" stroke="currentColor" strokeOpacity="0.16" strokeWidth={width} />
        {full > 0 && (
          <circle
            cx={size / 2}
            cy={size / 2}
            r={radius}
            fill="none"
            stroke="currentColor"
            strokeWidth={width}
            strokeLinecap="round"
            strokeDasharray={around}
            strokeDashoffset={around * (1 - full)}
            className="transition-[stroke-dashoffset] duration-500 ease-out"
          />
        )}
      </svg>
      {children && (
        <span aria-hidden="true" className="absolute inset-0 grid place-items-center">
          {children}
        </span>
      )}
    </span>
  )
}

/** A bar for each day, filled as far as what was to be done is done. */
export function DayBars({
  label,
  bars,
}: {
  label: string
  bars: readonly { name: string; letter: string; value: number; of: number; now: boolean }[]
}) {
  const top = Math.max(1, ...bars.map((b) => Math.max(b.of, b.value)))
  return (
    <div
      role="img"
      aria-label={`${label}: ${bars.map((b) => `${b.name} ${b.value} of ${b.of}`).join(', ')}`}
      className="grid grid-cols-7 gap-1.5"
    >
      {bars.map((b) => (
        <div key={b.name} aria-hidden="true" className="grid justify-items-center gap-1.5">
          <svg viewBox="0 0 20 56" className="h-14 w-5 text-brand">
            <rect
              x="4"
              y={56 - Math.max(6, (56 * b.of) / top)}
              width="12"
              height={Math.max(6, (56 * b.of) / top)}
              rx="5"
              fill="currentColor"
              opacity="0.15"
            />
            {b.value > 0 && (
              <rect x="4" y={56 - (56 * b.value) / top} width="12" height={(56 * b.value) / top} rx="5" fill="currentColor" />
            )}
          </svg>
          <span className={cx('text-xs font-semibold', b.now ? 'text-brand' : 'text-ink-3')}>{b.letter}</span>
        </div>
      ))}
    </div>
  )
}
