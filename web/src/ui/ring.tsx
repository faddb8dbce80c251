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

/** A small bar for each value, for a glance at a row of days. */
export function Sparkbars({ values, label, className }: { values: readonly number[]; label: string; className?: string }) {
  const top = Math.max(1, ...values)
  const step = 8
  return (
    <svg role="img" aria-label={label} viewBox={`0 0 ${values.length * step - 3} 24`} className={className} preserveAspectRatio="none">
      {values.map((v, i) => {
        const height = Math.max(2, (v / top) * 24)
        return <rect key={i} x={i * step} y={24 - height} width={5} height={height} rx={2} fill="currentColor" opacity={v > 0 ? 1 : 0.22} />
      })}
    </svg>
  )
}
