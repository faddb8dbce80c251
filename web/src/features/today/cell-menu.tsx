import { Check, Hash, RotateCcw, SkipForward } from 'lucide-react'
import { ContextMenu } from 'radix-ui'
import { type ReactNode, useState } from 'react'
import type { DashboardHabit } from '@/api/types'
import type { GridActions } from './week-grid'

type Place = { row: DashboardHabit; column: number; day: string }

/** What else can be done with a day: opened by a long press, a right click or the menu key. */
export function CellMenu({
  locate,
  actions,
  children,
}: {
  locate: (element: Element) => Place | undefined
  actions: GridActions
  children: ReactNode
}) {
  const [place, setPlace] = useState<Place>()
  const state = place?.row.records[place.column]?.state
  const item = 'flex min-h-11 cursor-pointer items-center gap-3 rounded-xl px-3 text-[0.9375rem] font-medium outline-none select-none data-highlighted:bg-sunken [&>svg]:size-4.5 [&>svg]:text-ink-3'
  return (
    <ContextMenu.Root modal={false} onOpenChange={(open) => !open && setPlace(undefined)}>
      <ContextMenu.Trigger
        asChild
        onContextMenu={(e) => {
          const found = e.target instanceof Element ? locate(e.target) : undefined
          setPlace(found)
          // Elsewhere on the grid the browser's own menu opens.
          if (!found) e.preventDefault()
        }}
      >
        {children}
      </ContextMenu.Trigger>
      {place && (
        <ContextMenu.Portal>
          <ContextMenu.Content
            aria-label={`${place.row.habit.name}, ${place.day}`}
            collisionPadding={12}
            className="z-30 min-w-52 animate-fade rounded-2xl border border-line bg-raised p-1.5 shadow-float"
          >
            <ContextMenu.Item className={item} onSelect={() => actions.onTap(place.row, place.column, place.day)}>
              {state === 'done' || state === 'skip' ? <RotateCcw aria-hidden="true" /> : <Check aria-hidden="true" />}
              {state === 'done' || state === 'skip' ? 'Open again' : 'Done'}
            </ContextMenu.Item>
            {place.row.habit.kind !== 'yesno' && (
              <ContextMenu.Item className={item} onSelect={() => actions.onAmount(place.row, place.column, place.day)}>
                <Hash aria-hidden="true" />
                Enter an amount…
              </ContextMenu.Item>
            )}
            {state !== 'skip' && (
              <ContextMenu.Item className={item} onSelect={() => actions.onSkip(place.row, place.column, place.day)}>
                <SkipForward aria-hidden="true" />
                Skip this day
              </ContextMenu.Item>
            )}
          </ContextMenu.Content>
        </ContextMenu.Portal>
      )}
    </ContextMenu.Root>
  )
}
