import { DropdownMenu as Radix } from 'radix-ui'
import { createContext, type ReactNode, useContext, useRef } from 'react'
import { cx } from './cx'

/**
 * Runs what was chosen from a menu after the menu has given the focus back, so
 * that a dialog which opens then knows where to return it to.
 */
export function useAfterClose(): { later: (run: () => void) => void; onCloseAutoFocus: () => void } {
  const chosen = useRef<() => void>(undefined)
  return {
    later: (run) => {
      chosen.current = run
    },
    onCloseAutoFocus: () => {
      const run = chosen.current
      chosen.current = undefined
      // Radix moves the focus when this handler has returned.
      if (run) queueMicrotask(run)
    },
  }
}

const Later = createContext<(run: () => void) => void>((run) => run())

/** A menu that opens from a button. Not modal: Radix's scroll lock injects a <style>. */
export function Menu({ trigger, children }: { trigger: ReactNode; children: ReactNode }) {
  const { later, onCloseAutoFocus } = useAfterClose()
  return (
    <Radix.Root modal={false}>
      <Radix.Trigger asChild>{trigger}</Radix.Trigger>
      <Radix.Portal>
        <Radix.Content
          align="end"
          sideOffset={6}
          collisionPadding={12}
          onCloseAutoFocus={onCloseAutoFocus}
          className="z-30 min-w-48 animate-fade rounded-2xl border border-line bg-raised p-1.5 shadow-float"
        >
          <Later value={later}>{children}</Later>
        </Radix.Content>
      </Radix.Portal>
    </Radix.Root>
  )
}

/** The classes of one thing to do from a menu. */
export const menuItemClass =
  'flex min-h-11 cursor-pointer items-center gap-3 rounded-xl px-3 text-[0.9375rem] font-medium outline-none select-none data-highlighted:bg-sunken'

/** One thing to do from a menu. */
export function MenuItem({
  icon,
  children,
  onSelect,
  danger = false,
}: {
  icon?: ReactNode
  children: ReactNode
  onSelect: () => void
  danger?: boolean
}) {
  const later = useContext(Later)
  return (
    <Radix.Item onSelect={() => later(onSelect)} className={cx(menuItemClass, danger ? 'text-danger' : 'text-ink')}>
      {icon && <span className="text-ink-3 [&>svg]:size-4.5">{icon}</span>}
      {children}
    </Radix.Item>
  )
}
