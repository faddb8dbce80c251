import { Check, Hash, RotateCcw, SkipForward } from 'lucide-react'
import { ContextMenu } from 'radix-ui'
import { type ReactNode, type SyntheticEvent, useRef, useState } from 'react'
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
  // A finger is down on the grid; then, that it opened the menu. What the browser
  // makes of such a press when the finger is lifted is no tap.
  const press = useRef<'none' | 'down' | 'long'>('none')
  const aim = (e: SyntheticEvent) => {
    const found = e.target instanceof Element ? locate(e.target) : undefined
    setPlace(found)
    // Only days have a menu; Radix opens none for what is prevented.
    if (!found) e.preventDefault()
  }
  const { later, onCloseAutoFocus } = useAfterClose()
  const item = cx(menuItemClass, '[&>svg]:size-4.5 [&>svg]:text-ink-3')
  return (
    <ContextMenu.Root
      modal={false}
      onOpenChange={(open) => {
        if (open && press.current === 'down') press.current = 'long'
      }}
    >
      <ContextMenu.Trigger
        asChild
        onContextMenu={aim}
        // Not every phone makes a contextmenu event of a long press.
        onPointerDown={(e) => {
          press.current = e.pointerType === 'mouse' ? 'none' : 'down'
          if (press.current === 'down') aim(e)
        }}
        onMouseDownCapture={(e) => {
          // It would take the focus from the menu, and so close it.
          if (press.current === 'long') e.preventDefault()
        }}
        onClickCapture={(e) => {
          if (press.current === 'long') e.stopPropagation()
          press.current = 'none'
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
