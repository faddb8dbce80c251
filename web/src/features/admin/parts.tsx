import type { ReactNode } from 'react'
import { cx } from '@/ui/cx'
import { Card } from '@/ui/surface'

/** A card of the page, under its title. */
export function Section({ title, hint, children }: { title: string; hint?: ReactNode; children: ReactNode }) {
  return (
    <Card aria-label={title} className="grid content-start gap-4 p-5 sm:p-6">
      <div className="grid gap-0.5">
        <h2 className="text-lg font-bold">{title}</h2>
        {hint && <p className="text-sm text-ink-3">{hint}</p>}
      </div>
      {children}
    </Card>
  )
}

/** Figures with their names. */
export function Figures({ of }: { of: readonly (readonly [name: string, value: ReactNode])[] }) {
  return (
    <dl className="grid grid-cols-2 gap-x-4 gap-y-3 sm:grid-cols-3">
      {of.map(([name, value]) => (
        <div key={name} className="grid min-w-0 content-start">
          <dt className="text-[0.8125rem] text-ink-3">{name}</dt>
          <dd className="font-semibold wrap-anywhere tabular-nums">{value}</dd>
        </div>
      ))}
    </dl>
  )
}

const tones = {
  good: 'bg-brand-soft text-brand',
  calm: 'bg-sunken text-ink-2',
  warn: 'bg-warn-soft text-warn',
  bad: 'bg-danger-soft text-danger',
} as const

export type Tone = keyof typeof tones

/** A word for a state, on its colour. */
export function Badge({ tone, children }: { tone: Tone; children: ReactNode }) {
  return <span className={cx('inline-flex items-center rounded-full px-2.5 py-0.5 text-sm font-bold', tones[tone])}>{children}</span>
}

/** A table that scrolls sideways where it does not fit. */
export function Table({ label, head, rows }: { label: string; head: readonly string[]; rows: readonly (readonly ReactNode[])[] }) {
  return (
    <div role="region" aria-label={label} tabIndex={0} className="overflow-x-auto rounded-lg">
      <table className="w-full text-left text-sm tabular-nums">
        <thead>
          <tr>
            {head.map((h) => (
              <th key={h} scope="col" className="border-b border-line py-2 pr-4 font-semibold whitespace-nowrap text-ink-3 last:pr-0">
                {h}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row, i) => (
            <tr key={i}>
              {row.map((cell, j) => (
                <td key={j} className="border-b border-line py-2 pr-4 whitespace-nowrap last:pr-0">
                  {cell}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  )
}
