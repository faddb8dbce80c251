import type { DashboardHabit } from '@/api/types'
import type { Tick } from '@/api/ticks'
import { useTicks } from '@/api/use-ticks'
import { toast } from '@/ui/toast'

/** Changes a day of a habit at once, with a way back. */
export function useToggle(userId: string): (row: DashboardHabit, column: number, day: string, to: Tick['record']) => void {
  const ticks = useTicks()
  return (row, column, day, to) => {
    const before = row.records[column] ?? null
    const put = (record: Tick['record']) =>
      ticks.add({ op: crypto.randomUUID(), user: userId, habit: row.habit.id, day, record, at: Date.now() })
    put(to)
    const said = to === null ? 'is open again' : to.state === 'skip' ? 'is skipped' : 'is done'
    toast({
      key: 'tick',
      text: `“${row.habit.name}” ${said}`,
      action: {
        label: 'Undo',
        run: () =>
          put(
            before && before.state !== 'note'
              ? { state: before.state, ...(before.value_milli > 0 ? { value_milli: before.value_milli } : {}) }
              : null,
          ),
      },
    })
  }
}

/** What one tap makes of a day: done in full, or open again. */
export function tapped(row: DashboardHabit, column: number): Tick['record'] {
  const record = row.records[column] ?? null
  if (record?.state === 'done' || record?.state === 'skip') return null
  return row.habit.kind === 'yesno' ? { state: 'done' } : { state: 'done', value_milli: row.habit.target_milli }
}
