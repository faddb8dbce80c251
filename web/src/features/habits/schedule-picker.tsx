import { CalendarCheck, Minus, Plus } from 'lucide-react'
import { useId } from 'react'
import { weekdayNames } from '@/api/day'
import { previewSchedule } from '@/api/schedule'
import type { Schedule } from '@/api/types'
import { IconButton } from '@/ui/button'
import { Toggles } from '@/ui/choice'
import { SelectField } from '@/ui/field'
import { type Draft, scheduleOf } from './draft'

const types: readonly { value: Schedule['type']; label: string }[] = [
  { value: 'daily', label: 'Every day' },
  { value: 'weekdays', label: 'On certain weekdays' },
  { value: 'n_per_week', label: 'Some times a week' },
  { value: 'n_per_month', label: 'Some times a month' },
  { value: 'every_n_days', label: 'Every few days' },
]

/** Picks when a habit is due, and shows at once what that comes to. */
export function SchedulePicker({
  draft,
  onChange,
  today,
  weekStart,
  error,
}: {
  draft: Draft
  onChange: (change: Partial<Draft>) => void
  today: string
  weekStart: number
  error?: string | undefined
}) {
  const previewId = useId()
  return (
    <div className="grid gap-3">
      <SelectField
        label="How often"
        value={draft.type}
        onChange={(e) => {
          const picked = types.find((t) => t.value === e.target.value)
          if (picked) onChange({ type: picked.value })
        }}
      >
        {types.map((t) => (
          <option key={t.value} value={t.value}>
            {t.label}
          </option>
        ))}
      </SelectField>
      {draft.type === 'weekdays' && (
        <Toggles
          label="Weekdays"
          describedBy={previewId}
          value={draft.weekdays.map(String)}
          onChange={(days) => onChange({ weekdays: days.map(Number) })}
          options={weekdayNames(weekStart).map((d) => ({ value: String(d.value), label: d.letter, long: d.long }))}
        />
      )}
      {draft.type === 'n_per_week' && (
        <Stepper label="Times a week" value={draft.perWeek} max={7} onChange={(perWeek) => onChange({ perWeek })} />
      )}
      {draft.type === 'n_per_month' && (
        <Stepper label="Times a month" value={draft.perMonth} max={28} onChange={(perMonth) => onChange({ perMonth })} />
      )}
      {draft.type === 'every_n_days' && (
        <Stepper label="Days from one to the next" value={draft.everyDays} max={60} onChange={(everyDays) => onChange({ everyDays })} />
      )}
      <p
        id={previewId}
        aria-live="polite"
        className={
          error
            ? 'flex items-center gap-2 rounded-control bg-danger-soft px-3.5 py-2.5 text-sm font-medium text-danger'
            : 'flex items-center gap-2 rounded-control bg-brand-soft px-3.5 py-2.5 text-sm font-medium text-brand'
        }
      >
        <CalendarCheck aria-hidden="true" className="size-4 shrink-0" />
        {error ?? previewSchedule(scheduleOf(draft), today)}
      </p>
    </div>
  )
}

function Stepper({ label, value, max, onChange }: { label: string; value: number; max: number; onChange: (value: number) => void }) {
  return (
    <div role="group" aria-label={label} className="flex items-center justify-between rounded-control border border-line py-1 pr-1 pl-3.5">
      <span className="text-[0.9375rem] font-medium">{label}</span>
      <span className="flex items-center gap-1">
        <IconButton label="Fewer" disabled={value <= 1} onClick={() => onChange(value - 1)}>
          <Minus aria-hidden="true" className="size-4.5" />
        </IconButton>
        <output className="w-7 text-center text-lg font-bold" aria-live="polite">
          {value}
        </output>
        <IconButton label="More" disabled={value >= max} onClick={() => onChange(value + 1)}>
          <Plus aria-hidden="true" className="size-4.5" />
        </IconButton>
      </span>
    </div>
  )
}
