import { cx } from './cx'

const width = 320
const height = 72

/**
 * A line of numbers between 0 and max, the oldest at the left. A null leaves a
 * gap. It is for the eye: put the numbers in a table beside it.
 */
export function Sparkline({
  values,
  max,
  label,
  className,
}: {
  values: readonly (number | null)[]
  max: number
  label: string
  className?: string
}) {
  const x = (i: number) => (values.length > 1 ? (i / (values.length - 1)) * (width - 4) + 2 : width - 2)
  const y = (v: number) => height - 3 - (Math.min(v, max) / (max || 1)) * (height - 6)
  let open = false
  const line = values
    .map((v, i) => {
      if (v === null) {
        open = false
        return ''
      }
      const point = `${open ? 'L' : 'M'}${x(i).toFixed(1)} ${y(v).toFixed(1)}${open ? '' : 'h.01'}`
      open = true
      return point
    })
    .join('')
  return (
    <svg
      role="img"
      aria-label={label}
      viewBox={`0 0 ${width} ${height}`}
      preserveAspectRatio="none"
      className={cx('h-18 w-full rounded-lg bg-sunken text-brand', className)}
    >
      <line x1="0" x2={width} y1={y(max)} y2={y(max)} className="stroke-line" strokeWidth="1" vectorEffect="non-scaling-stroke" />
      <line x1="0" x2={width} y1={y(max / 2)} y2={y(max / 2)} className="stroke-line" strokeWidth="1" vectorEffect="non-scaling-stroke" />
      <path
        d={line}
        fill="none"
        stroke="currentColor"
        strokeWidth="2"
        strokeLinecap="round"
        strokeLinejoin="round"
        vectorEffect="non-scaling-stroke"
      />
    </svg>
  )
}
