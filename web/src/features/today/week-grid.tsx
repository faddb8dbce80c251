import { Archive, Check, Clock, Ellipsis, Flame, Minus, Pencil, Users } from 'lucide-react'
import { type KeyboardEvent, useRef, useState } from 'react'
import { formatDay } from '@/api/day'
import { describeSchedule } from '@/api/schedule'
import type { Dashboard, DashboardHabit, Habit, Streak } from '@/api/types'
import { IconButton } from '@/ui/button'
import { cx } from '@/ui/cx'
import { HabitIcon, hueName } from '@/ui/habit-icon'
import { Menu, MenuItem } from '@/ui/menu'
import { Ring } from '@/ui/ring'
import { CellMenu } from './cell-menu'
import { amountOf, describeCell, lookOf } from './cell'

// One grid for both: on a phone the seven days lie under the name, on a desktop beside it.
const columns =
  'grid grid-cols-[minmax(0,1fr)_auto_auto] md:grid-cols-[minmax(9rem,1fr)_repeat(7,2.875rem)_7.75rem_2.75rem] 2xl:grid-cols-[minmax(11rem,1fr)_repeat(7,3.25rem)_8.25rem_2.75rem] items-center'

export type GridActions = {
  onTap: (row: DashboardHabit, column: number, day: string) => void
  onSkip: (row: DashboardHabit, column: number, day: string) => void
  onAmount: (row: DashboardHabit, column: number, day: string) => void
  onEdit: (habit: Habit) => void
  onArchive: (habit: Habit) => void
}

/** Habits × the seven days of a week; arrow keys move, Enter or Space ticks. */
export function WeekGrid({
  dashboard,
  held,
  weekStart,
  actions,
}: {
  dashboard: Dashboard
  /** "habit day" of the ticks that wait to be sent */
  held: ReadonlySet<string>
  weekStart: number
  actions: GridActions
}) {
  const { days, today, habits } = dashboard
  const grid = useRef<HTMLDivElement>(null)
  const [active, setActive] = useState<{ row: number; column: number }>()
  const column = active?.column ?? Math.max(0, days.indexOf(today))
  const row = Math.min(active?.row ?? 0, habits.length - 1)

  const move = (e: KeyboardEvent) => {
    const to = target(e, row, column, habits.length)
    if (!to) return
    e.preventDefault()
    setActive(to)
    grid.current?.querySelector<HTMLElement>(`[data-row="${to.row}"][data-column="${to.column}"]`)?.focus()
  }

  return (
    <CellMenu
      locate={(element) => {
        const cell = element.closest<HTMLElement>('[data-row][data-column]')
        const at = cell && { row: habits[Number(cell.dataset.row)], column: Number(cell.dataset.column) }
        const day = at ? days[at.column] : undefined
        return at?.row && day !== undefined && day <= today ? { row: at.row, column: at.column, day } : undefined
      }}
      actions={actions}
    >
      <div ref={grid} role="grid" aria-label="Habits and the days of the week" onKeyDown={move}>
        <div role="row" className={cx(columns, 'border-b border-line px-3 py-2.5 sm:px-5')}>
          <span role="columnheader" className="sr-only text-[0.8125rem] font-semibold text-ink-3 md:not-sr-only">
            Habit
          </span>
          <span className="col-span-full flex justify-between md:contents">
            {days.map((day) => (
              <span
                key={day}
                role="columnheader"
                {...(day === today ? { 'aria-current': 'date' as const } : {})}
                className="grid w-11 justify-items-center gap-0.5 justify-self-center"
              >
                <span className="sr-only">{formatDay(day, { weekday: 'long', day: 'numeric', month: 'long' })}</span>
                <span aria-hidden="true" className={cx('text-xs font-semibold', day === today ? 'text-brand' : 'text-ink-3')}>
                  {formatDay(day, { weekday: 'short' })}
                </span>
                <span
                  aria-hidden="true"
                  className={cx(
                    'grid size-7 place-items-center rounded-full text-sm font-bold',
                    day === today ? 'bg-brand text-on-brand' : day > today ? 'text-ink-3' : 'text-ink-2',
                  )}
                >
                  {Number(day.slice(8))}
                </span>
              </span>
            ))}
          </span>
          <span role="columnheader" className="sr-only justify-self-end pr-14 text-[0.8125rem] font-semibold text-ink-3 md:not-sr-only">
            Streak<span className="sr-only"> and strength</span>
          </span>
          <span role="columnheader" className="sr-only">
            More
          </span>
        </div>
        {habits.map((it, r) => (
          <div
            key={it.habit.id}
            role="row"
            data-hue={hueName(it.habit.color)}
            className={cx(columns, 'gap-y-3 border-b border-line px-3 py-4 last:border-b-0 sm:px-5 md:py-3')}
          >
            <span role="rowheader" className="flex min-w-0 items-center gap-3 pr-2">
              <HabitIcon icon={it.habit.icon} color={it.habit.color} />
              <span className="grid min-w-0">
                <span className="line-clamp-2 leading-snug font-semibold break-words">{it.habit.name}</span>
                <span className="flex items-center gap-1.5 truncate text-[0.8125rem] text-ink-3">
                  {describeSchedule(it.habit.schedule, weekStart)}
                  {it.habit.visibility !== 'private' && (
                    <>
                      <Users aria-hidden="true" className="size-3.5" />
                      <span className="sr-only">shared with a team</span>
                    </>
                  )}
                </span>
              </span>
            </span>
            <span className="order-last col-span-full flex justify-between md:order-none md:contents">
              {days.map((day, c) => (
                <span key={day} role="gridcell" className="justify-self-center">
                  <Cell
                    it={it}
                    row={r}
                    column={c}
                    day={day}
                    today={today}
                    held={held.has(`${it.habit.id} ${day}`)}
                    tabbable={r === row && c === column}
                    onFocus={() => setActive({ row: r, column: c })}
                    onTap={() => actions.onTap(it, c, day)}
                  />
                </span>
              ))}
            </span>
            <span role="gridcell" className="flex items-center justify-end gap-2.5 md:pr-1">
              <StreakCount streak={it.streak} />
              <Ring
                value={it.strength}
                size={40}
                width={3.5}
                label={`Strength ${Math.round(it.strength * 100)} percent`}
                className="text-hue"
              >
                <span className="text-[0.6875rem] font-bold text-ink-2">{Math.round(it.strength * 100)}</span>
              </Ring>
            </span>
            <span role="gridcell" className="justify-self-end">
              <Menu
                trigger={
                  <IconButton label={`More for ${it.habit.name}`} className="max-md:-mr-2 max-md:w-9">
                    <Ellipsis aria-hidden="true" className="size-5" />
                  </IconButton>
                }
              >
                <MenuItem icon={<Pencil aria-hidden="true" />} onSelect={() => actions.onEdit(it.habit)}>
                  Edit or share
                </MenuItem>
                <MenuItem icon={<Archive aria-hidden="true" />} onSelect={() => actions.onArchive(it.habit)}>
                  Archive
                </MenuItem>
              </Menu>
            </span>
          </div>
        ))}
      </div>
    </CellMenu>
  )
}

function target(e: KeyboardEvent, row: number, column: number, rows: number): { row: number; column: number } | undefined {
  if (!(e.target instanceof HTMLElement) || !e.target.dataset.column) return undefined
  switch (e.key) {
    case 'ArrowLeft':
      return { row, column: Math.max(0, column - 1) }
    case 'ArrowRight':
      return { row, column: Math.min(6, column + 1) }
    case 'ArrowUp':
      return { row: Math.max(0, row - 1), column }
    case 'ArrowDown':
      return { row: Math.min(rows - 1, row + 1), column }
    case 'Home':
      return { row: e.ctrlKey ? 0 : row, column: 0 }
    case 'End':
      return { row: e.ctrlKey ? rows - 1 : row, column: 6 }
    default:
      return undefined
  }
}

function Cell({
  it,
  row,
  column,
  day,
  today,
  held,
  tabbable,
  onFocus,
  onTap,
}: {
  it: DashboardHabit
  row: number
  column: number
  day: string
  today: string
  held: boolean
  tabbable: boolean
  onFocus: () => void
  onTap: () => void
}) {
  const look = lookOf(it, column, day, today)
  const record = it.records[column] ?? null
  const ahead = day > today
  return (
    <button
      type="button"
      data-row={row}
      data-column={column}
      tabIndex={tabbable ? 0 : -1}
      aria-pressed={look === 'done' || look === 'partial'}
      // Not `disabled`: the arrow keys pass through it.
      aria-disabled={ahead || undefined}
      aria-label={describeCell(it, column, day, today) + (held ? ', waiting to be sent' : '')}
      title={record?.state === 'done' && it.habit.kind !== 'yesno' ? amountOf(it.habit, record) : undefined}
      onFocus={onFocus}
      onClick={() => !ahead && onTap()}
      className={cx('group relative grid size-11 place-items-center rounded-full', ahead && 'cursor-default')}
    >
      <span
        className={cx(
          'grid size-9 place-items-center rounded-full transition-[background-color,border-color,transform] duration-150 group-active:scale-90',
          look === 'done' && 'animate-pop bg-hue text-surface',
          look === 'partial' && 'border-2 border-hue bg-hue-soft text-xs font-bold text-hue',
          look === 'skip' && 'bg-sunken text-ink-2',
          look === 'open' && 'border-2 border-hue bg-hue-soft group-hover:bg-hue/25',
          look === 'missed' && 'border-[1.5px] border-line-strong/80 group-hover:border-hue group-hover:bg-hue-soft',
          look === 'free' && 'group-hover:border-2 group-hover:border-hue group-hover:bg-hue-soft',
          look === 'ahead' && it.due[column] === true && 'border-[1.5px] border-dashed border-line-strong/55',
        )}
      >
        {look === 'done' && <Check aria-hidden="true" className="size-5" strokeWidth={3} />}
        {look === 'partial' && record && <span aria-hidden="true">{Math.round(record.value_milli / 1000)}</span>}
        {look === 'skip' && <Minus aria-hidden="true" className="size-4" strokeWidth={2.5} />}
        {(look === 'free' || (look === 'ahead' && it.due[column] !== true)) && (
          <span aria-hidden="true" className={cx('size-1.5 rounded-full', look === 'free' ? 'bg-line-strong' : 'bg-line-strong/45')} />
        )}
      </span>
      {held && (
        <span
          aria-hidden="true"
          className="absolute right-0 bottom-0 grid size-4.5 place-items-center rounded-full bg-surface text-warn shadow-card"
        >
          <Clock className="size-3.5" strokeWidth={2.5} />
        </span>
      )}
    </button>
  )
}

/** A flame with the length of the run that is on. */
function StreakCount({ streak }: { streak: Streak }) {
  const units = { day: 'day', week: 'week', month: 'month', time: 'time' } as const
  const many = (n: number) => `${n} ${units[streak.unit]}${n === 1 ? '' : 's'}`
  const on = streak.current > 0
  const label = on ? `Streak: ${many(streak.current)}, best ${many(streak.best)}` : `No streak at the moment, best ${many(streak.best)}`
  return (
    <span
      role="img"
      aria-label={label}
      title={label}
      className={cx('inline-flex items-center gap-1 font-bold', on ? 'text-flame' : 'text-ink-3')}
    >
      <Flame aria-hidden="true" className="size-4.5" fill={on ? 'currentColor' : 'none'} fillOpacity={0.25} strokeWidth={2.2} />
      <span aria-hidden="true">{streak.current}</span>
    </span>
  )
}
