import { Check, Hash, RotateCcw, SkipForward } from 'lucide-react'
import { ContextMenu } from 'radix-ui'
import { type ReactNode, useState } from 'react'
import type { DashboardHabit } from '@/api/types'
import { cx } from '@/ui/cx'
import { menuItemClass, useAfterClose } from '@/ui/menu'
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
  const { later, onCloseAutoFocus } = useAfterClose()
  const item = cx(menuItemClass, '[&>svg]:size-4.5 [&>svg]:text-ink-3')
  return (
    <ContextMenu.Root modal={false}>
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
            onCloseAutoFocus={onCloseAutoFocus}
            className="z-30 min-w-52 animate-fade rounded-2xl border border-line bg-raised p-1.5 shadow-float"
          >
            <ContextMenu.Item className={item} onSelect={() => later(() => actions.onTap(place.row, place.column, place.day))}>
              {state === 'done' || state === 'skip' ? <RotateCcw aria-hidden="true" /> : <Check aria-hidden="true" />}
              {state === 'done' || state === 'skip' ? 'Open again' : 'Done'}
            </ContextMenu.Item>
            {place.row.habit.kind !== 'yesno' && (
              <ContextMenu.Item className={item} onSelect={() => later(() => actions.onAmount(place.row, place.column, place.day))}>
                <Hash aria-hidden="true" />
                Enter an amount…
              </ContextMenu.Item>
            )}
            {state !== 'skip' && (
              <ContextMenu.Item className={item} onSelect={() => later(() => actions.onSkip(place.row, place.column, place.day))}>
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
