import { useMutation, useQueryClient } from '@tanstack/react-query'
import { type FormEvent, useState } from 'react'
import { changeMe, meQuery } from '@/api/me'
import { explain, fieldProblem, Problem } from '@/api/problem'
import type { User } from '@/api/types'
import { weekdayNames } from '@/api/day'
import { Button } from '@/ui/button'
import { FormError, SelectField, TextField } from '@/ui/field'
import { toast } from '@/ui/toast'

/** Name, zone, and when a person's days and weeks begin. */
export function ProfileForm({ me }: { me: User }) {
  const [name, setName] = useState(me.name)
  const [tz, setTz] = useState(me.tz)
  const [dayStart, setDayStart] = useState(me.day_start_min)
  const [weekStart, setWeekStart] = useState(me.week_start)
  const queryClient = useQueryClient()
  const save = useMutation({
    mutationFn: () => changeMe(me, { name: name.trim(), tz, day_start_min: dayStart, week_start: weekStart }),
    onSuccess: (user) => {
      queryClient.setQueryData(meQuery.queryKey, user)
      void queryClient.invalidateQueries({ queryKey: ['dashboard'] })
      toast({ text: 'Your settings are saved' })
    },
    onError: (error) => {
      // Changed in another window: the next try starts from what is there.
      if (error instanceof Problem && error.status === 412) void queryClient.invalidateQueries({ queryKey: meQuery.queryKey })
    },
  })
  const unchanged = name.trim() === me.name && tz === me.tz && dayStart === me.day_start_min && weekStart === me.week_start
  const submit = (e: FormEvent) => {
    e.preventDefault()
    if (name.trim() !== '') save.mutate()
  }
  return (
    <form onSubmit={submit} noValidate className="grid gap-5">
      {save.isError && <FormError>{explain(save.error)}</FormError>}
      <TextField
        label="Name"
        autoComplete="name"
        maxLength={80}
        value={name}
        onChange={(e) => setName(e.target.value)}
        error={name.trim() === '' ? 'Your team-mates need a name for you.' : fieldProblem(save.error, 'name')}
      />
      <SelectField label="Time zone" value={tz} onChange={(e) => setTz(e.target.value)} error={fieldProblem(save.error, 'tz')}>
        {zones(me.tz).map(([region, names]) => (
          <optgroup key={region} label={region}>
            {names.map((zone) => (
              <option key={zone} value={zone}>
                {zone.replaceAll('_', ' ')}
              </option>
            ))}
          </optgroup>
        ))}
      </SelectField>
      <div className="grid gap-5 sm:grid-cols-2">
        <SelectField
          label="Your day begins at"
          hint="What you do before still counts for the day before."
          value={dayStart}
          onChange={(e) => setDayStart(Number(e.target.value))}
          error={fieldProblem(save.error, 'day_start_min')}
        >
          {dayStarts(me.day_start_min).map((min) => (
            <option key={min} value={min}>
              {clock(min)}
            </option>
          ))}
        </SelectField>
        <SelectField label="Your week begins on" value={weekStart} onChange={(e) => setWeekStart(Number(e.target.value))}>
          {weekdayNames(1).map((d) => (
            <option key={d.value} value={d.value}>
              {d.long}
            </option>
          ))}
        </SelectField>
      </div>
      <div>
        <Button look="primary" type="submit" busy={save.isPending} disabled={unchanged}>
          Save changes
        </Button>
      </div>
    </form>
  )
}

/** Every zone the browser knows, and the person's own, by region. */
function zones(own: string): [string, string[]][] {
  const byRegion = new Map<string, string[]>()
  for (const zone of new Set([own, 'UTC', ...Intl.supportedValuesOf('timeZone')])) {
    const region = zone.includes('/') ? (zone.split('/')[0] ?? zone) : 'General'
    byRegion.set(region, [...(byRegion.get(region) ?? []), zone])
  }
  return [...byRegion].map(([region, names]): [string, string[]] => [region, names.toSorted()]).toSorted(([a], [b]) => a.localeCompare(b))
}

function dayStarts(own: number): number[] {
  return [...new Set([own, ...Array.from({ length: 25 }, (_, i) => i * 30)])].toSorted((a, b) => a - b)
}

function clock(min: number): string {
  if (min === 0) return 'Midnight'
  if (min === 720) return 'Noon'
  return `${String(Math.floor(min / 60)).padStart(2, '0')}:${String(min % 60).padStart(2, '0')}`
}
