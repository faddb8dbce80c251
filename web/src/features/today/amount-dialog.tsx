import { type FormEvent, useId, useState } from 'react'
import { formatDay } from '@/api/day'
import type { DashboardHabit } from '@/api/types'
import { Button } from '@/ui/button'
import { Dialog, DialogActions, DialogBody } from '@/ui/dialog'
import { TextField } from '@/ui/field'

/** Asks how much was done on a day. */
export function AmountDialog({
  row,
  column,
  day,
  onClose,
  onAmount,
}: {
  row: DashboardHabit
  column: number
  day: string
  onClose: () => void
  onAmount: (milli: number) => void
}) {
  const { habit } = row
  const known = row.records[column]?.value_milli ?? 0
  const [amount, setAmount] = useState(known > 0 ? String(known / 1000) : '')
  const [tried, setTried] = useState(false)
  const formId = useId()
  const milli = Math.round(Number(amount.replace(',', '.')) * 1000)
  const good = amount.trim() !== '' && milli >= 0
  const submit = (e: FormEvent) => {
    e.preventDefault()
    setTried(true)
    if (!good) return
    onAmount(milli)
    onClose()
  }
  return (
    <Dialog open onClose={onClose} title={habit.name} description={formatDay(day, { weekday: 'long', day: 'numeric', month: 'long' })}>
      <DialogBody>
        <form id={formId} onSubmit={submit} noValidate>
          <TextField
            label={habit.kind === 'duration' ? 'Minutes' : habit.unit || 'Amount'}
            hint={`The goal is ${habit.target_milli / 1000}.`}
            inputMode="decimal"
            value={amount}
            onChange={(e) => setAmount(e.target.value)}
            error={tried && !good ? 'Enter a number, such as 12 or 2.5.' : undefined}
          />
        </form>
      </DialogBody>
      <DialogActions>
        <Button look="quiet" onClick={onClose}>
          Cancel
        </Button>
        <Button look="primary" type="submit" form={formId}>
          Save
        </Button>
      </DialogActions>
    </Dialog>
  )
}
