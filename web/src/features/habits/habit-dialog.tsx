import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query'
import { Lock, Users, UsersRound } from 'lucide-react'
import { type FormEvent, useId, useState } from 'react'
import { changeHabit, createHabit } from '@/api/habits'
import { explain, fieldProblem } from '@/api/problem'
import { teamsQuery } from '@/api/teams'
import type { Habit, User } from '@/api/types'
import { Button } from '@/ui/button'
import { RadioCards, Segmented } from '@/ui/choice'
import { Dialog, DialogActions, DialogBody } from '@/ui/dialog'
import { FormError, TextField } from '@/ui/field'
import { toast } from '@/ui/toast'
import { blank, type Draft, draftOf, faults, toChange, toInput } from './draft'
import { LookPicker } from './look-picker'
import { SchedulePicker } from './schedule-picker'

/** Makes a habit, or changes one. */
export function HabitDialog({ me, habit, open, onClose }: { me: User; habit?: Habit | undefined; open: boolean; onClose: () => void }) {
  return (
    <Dialog open={open} onClose={onClose} wide title={habit ? 'Edit habit' : 'New habit'}>
      <HabitForm me={me} habit={habit} onDone={onClose} />
    </Dialog>
  )
}

function HabitForm({ me, habit, onDone }: { me: User; habit: Habit | undefined; onDone: () => void }) {
  const [draft, setDraft] = useState<Draft>(habit ? draftOf(habit) : blank)
  const [tried, setTried] = useState(false)
  const formId = useId()
  const queryClient = useQueryClient()
  const teams = useQuery(teamsQuery)
  const change = (c: Partial<Draft>) => setDraft((d) => ({ ...d, ...c }))

  const save = useMutation({
    mutationFn: () => (habit ? changeHabit(habit, toChange(draft)) : createHabit(toInput(draft))),
    onSuccess: async (saved) => {
      await queryClient.invalidateQueries({ queryKey: ['dashboard'] })
      toast({ text: habit ? `“${saved.name}” is changed` : `“${saved.name}” is on your list` })
      onDone()
    },
  })

  const wrong = tried ? faults(draft) : {}
  const submit = (e: FormEvent) => {
    e.preventDefault()
    setTried(true)
    if (Object.keys(faults(draft)).length === 0) save.mutate()
    else requestAnimationFrame(() => document.querySelector<HTMLElement>(`#${CSS.escape(formId)} [aria-invalid='true']`)?.focus())
  }

  return (
    <>
      <DialogBody>
        <form id={formId} onSubmit={submit} noValidate className="grid gap-6">
          {save.isError && <FormError>{explain(save.error)}</FormError>}
          <TextField
            label="What do you want to do?"
            placeholder="Read 20 pages"
            autoComplete="off"
            maxLength={80}
            value={draft.name}
            onChange={(e) => change({ name: e.target.value })}
            error={wrong.name ?? fieldProblem(save.error, 'name')}
          />
          <div className="grid gap-3">
            {!habit && (
              <Segmented
                label="How it is counted"
                value={draft.kind}
                onChange={(kind) => change({ kind })}
                options={[
                  { value: 'yesno', label: 'Done or not' },
                  { value: 'count', label: 'Amount' },
                  { value: 'duration', label: 'Minutes' },
                ]}
              />
            )}
            {draft.kind !== 'yesno' && (
              <div className="grid grid-cols-2 gap-3">
                <TextField
                  label={draft.kind === 'duration' ? 'Minutes a day' : 'Goal a day'}
                  inputMode="decimal"
                  value={draft.target}
                  onChange={(e) => change({ target: e.target.value })}
                  error={wrong.target ?? fieldProblem(save.error, 'target_milli')}
                />
                {draft.kind === 'count' && (
                  <TextField
                    label="Of what"
                    placeholder="pages"
                    maxLength={24}
                    value={draft.unit}
                    onChange={(e) => change({ unit: e.target.value })}
                    error={fieldProblem(save.error, 'unit')}
                  />
                )}
              </div>
            )}
          </div>
          <SchedulePicker
            draft={draft}
            onChange={change}
            today={me.today}
            weekStart={me.week_start}
            error={wrong.schedule ?? fieldProblem(save.error, 'schedule')}
          />
          <fieldset className="grid gap-3">
            <legend className="mb-1 text-sm font-semibold">How it looks</legend>
            <LookPicker color={draft.color} icon={draft.icon} onChange={change} />
          </fieldset>
          <fieldset className="grid gap-3">
            <legend className="mb-2 text-sm font-semibold">Who sees it</legend>
            <RadioCards
              label="Who sees it"
              value={draft.visibility}
              onChange={(visibility) => change({ visibility })}
              options={[
                { value: 'private', label: 'Only me', hint: 'Not even its name reaches a team.', icon: <Lock aria-hidden="true" /> },
                { value: 'team', label: 'All my teams', hint: 'They see when you tick it.', icon: <Users aria-hidden="true" /> },
                ...((teams.data?.length ?? 0) > 0
                  ? [{ value: 'named' as const, label: 'Some teams', hint: 'You pick them.', icon: <UsersRound aria-hidden="true" /> }]
                  : []),
              ]}
            />
            {draft.visibility === 'named' && (
              <div className="grid gap-1 pl-1">
                {teams.data?.map(({ team }) => (
                  <label key={team.id} className="flex min-h-11 items-center gap-3 text-[0.9375rem] font-medium">
                    <input
                      type="checkbox"
                      className="size-5 accent-brand"
                      checked={draft.teamIds.includes(team.id)}
                      onChange={(e) =>
                        change({ teamIds: e.target.checked ? [...draft.teamIds, team.id] : draft.teamIds.filter((id) => id !== team.id) })
                      }
                    />
                    {team.name}
                  </label>
                ))}
                {wrong.teams && (
                  <p role="alert" className="text-[0.8125rem] font-medium text-danger">
                    {wrong.teams}
                  </p>
                )}
              </div>
            )}
          </fieldset>
        </form>
      </DialogBody>
      <DialogActions>
        <Button look="quiet" onClick={onDone}>
          Cancel
        </Button>
        <Button look="primary" type="submit" form={formId} busy={save.isPending}>
          {habit ? 'Save' : 'Create habit'}
        </Button>
      </DialogActions>
    </>
  )
}
