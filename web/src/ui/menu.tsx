import { DropdownMenu as Radix } from 'radix-ui'
import type { ReactNode } from 'react'
import { cx } from './cx'

/** A menu that opens from a button. Not modal: Radix's scroll lock injects a <style>. */
export function Menu({ trigger, children }: { trigger: ReactNode; children: ReactNode }) {
  return (
    <Radix.Root modal={false}>
      <Radix.Trigger asChild>{trigger}</Radix.Trigger>
      <Radix.Portal>
        <Radix.Content
          align="end"
          sideOffset={6}
          collisionPadding={12}
          className="z-30 min-w-48 animate-fade rounded-2xl border border-line bg-raised p-1.5 shadow-float"
        >
          {children}
        </Radix.Content>
      </Radix.Portal>
    </Radix.Root>
  )
}

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
  return (
    <Radix.Item
      onSelect={onSelect}
      className={cx(
        'flex min-h-11 cursor-pointer items-center gap-3 rounded-xl px-3 text-[0.9375rem] font-medium outline-none select-none data-highlighted:bg-sunken',
        danger ? 'text-danger' : 'text-ink',
      )}
    >
      {icon && <span className="text-ink-3 [&>svg]:size-4.5">{icon}</span>}
      {children}
    </Radix.Item>
  )
}
