import { X } from 'lucide-react'
import { Dialog as Radix } from 'radix-ui'
import { type ReactNode, useRef } from 'react'
import { IconButton } from './button'
import { cx } from './cx'

/**
 * A modal dialog: a sheet from below on a phone, a card in the middle of a desktop.
 *
 * The shade is our own element, not Radix's overlay: that one locks scrolling
 * with an injected <style>, which the page's policy refuses. theme.css locks it.
 */
export function Dialog({
  open,
  onClose,
  title,
  description,
  children,
  wide = false,
}: {
  open: boolean
  onClose: () => void
  title: string
  description?: ReactNode
  children: ReactNode
  wide?: boolean
}) {
  // Dialogs are opened by state, not by a trigger of Radix's, so that they
  // remember themselves where the focus came from.
  const from = useRef<Element>(null)
  return (
    <Radix.Root open={open} onOpenChange={(next) => !next && onClose()}>
      <Radix.Portal>
        <div data-modal aria-hidden="true" className="fixed inset-0 z-40 animate-fade bg-shade" />
        <Radix.Content
          onOpenAutoFocus={() => {
            from.current = document.activeElement
          }}
          onCloseAutoFocus={(e) => {
            e.preventDefault()
            if (from.current instanceof HTMLElement) from.current.focus()
          }}
          {...(description ? {} : { 'aria-describedby': undefined })}
          className={cx(
            'fixed inset-x-0 bottom-0 z-50 flex max-h-[92dvh] animate-rise flex-col rounded-t-3xl bg-raised shadow-float outline-none',
            'sm:inset-x-auto sm:top-1/2 sm:bottom-auto sm:left-1/2 sm:max-h-[88dvh] sm:-translate-x-1/2 sm:-translate-y-1/2 sm:animate-fade sm:rounded-3xl',
            wide ? 'sm:w-[36rem]' : 'sm:w-[28rem]',
          )}
        >
          <div className="flex items-start justify-between gap-4 px-4 pt-5 sm:px-7 sm:pt-6">
            <div className="grid gap-1 pt-1.5">
              <Radix.Title className="text-xl font-bold">{title}</Radix.Title>
              {description && <Radix.Description className="text-sm text-ink-2">{description}</Radix.Description>}
            </div>
            <Radix.Close asChild>
              <IconButton label="Close" className="-mr-2">
                <X aria-hidden="true" className="size-5" />
              </IconButton>
            </Radix.Close>
          </div>
          {children}
        </Radix.Content>
      </Radix.Portal>
    </Radix.Root>
  )
}

/** The part of a dialog that scrolls. */
export function DialogBody({ children }: { children: ReactNode }) {
  return <div className="grid gap-5 overflow-y-auto overscroll-contain px-4 py-5 sm:px-7">{children}</div>
}

/** The row of buttons under a dialog, always in sight; right under its title if there is no body. */
export function DialogActions({ children }: { children: ReactNode }) {
  return (
    <div className="flex flex-wrap justify-end gap-3 border-t [&:nth-child(2)]:mt-5 border-line px-4 pt-4 pb-[max(1rem,env(safe-area-inset-bottom))] sm:px-7 sm:pb-5">
      {children}
    </div>
  )
}
