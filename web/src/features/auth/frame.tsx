import type { ReactNode } from 'react'
import { Mark, PageTitle } from '@/ui/surface'

/** The page around signing in: the form, and on a desktop what it is for. */
export function AuthFrame({ title, children }: { title: string; children: ReactNode }) {
  return (
    <div className="grid min-h-dvh lg:grid-cols-2">
      <main className="mx-auto grid w-full max-w-[27rem] content-center gap-8 px-5 py-12">
        <p className="flex items-center gap-3 text-xl font-bold tracking-tight">
          <Mark className="size-9" />
          Crewbeat
        </p>
        <PageTitle>{title}</PageTitle>
        {children}
      </main>
      <aside
        aria-label="About Crewbeat"
        className="hidden content-center justify-items-center gap-10 border-l border-line bg-brand-soft p-16 lg:grid"
      >
        <Pulse />
        <p className="max-w-md text-center text-2xl leading-snug font-semibold tracking-tight text-balance">
          Small things, done again and again, with people who notice.
        </p>
      </aside>
    </div>
  )
}

/** Seven days of a crew of four. */
function Pulse() {
  const hues = ['teal', 'coral', 'blue', 'amber'] as const
  const days = ['1111011', '1011111', '1101110', '0111101']
  return (
    <svg viewBox="0 0 330 190" className="w-full max-w-md" aria-hidden="true">
      {days.map((row, r) => (
        <g key={row} data-hue={hues[r]} transform={`translate(0 ${r * 48})`}>
          {[...row].map((d, c) =>
            d === '1' ? (
              <g key={c} transform={`translate(${c * 48} 0)`}>
                <circle cx="20" cy="20" r="18" className="fill-hue" />
                <path
                  d="m13 20.5 5 5 9.5-10"
                  fill="none"
                  className="stroke-surface"
                  strokeWidth="3.4"
                  strokeLinecap="round"
                  strokeLinejoin="round"
                />
              </g>
            ) : (
              <circle key={c} cx={c * 48 + 20} cy="20" r="16.5" fill="none" className="stroke-hue" strokeWidth="3" strokeOpacity="0.4" />
            ),
          )}
        </g>
      ))}
    </svg>
  )
}
