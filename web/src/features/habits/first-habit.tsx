import { useMutation, useQueryClient } from '@tanstack/react-query'
import { ArrowLeft } from 'lucide-react'
import { type FormEvent, useState } from 'react'
import { createHabit } from '@/api/habits'
import { explain, fieldProblem } from '@/api/problem'
import type { User } from '@/api/types'
import { Button } from '@/ui/button'
import { FormError, TextField } from '@/ui/field'
import { HabitIcon } from '@/ui/habit-icon'
import { PageTitle } from '@/ui/surface'
import { blank, type Draft, faults, toInput } from './draft'
import { SchedulePicker } from './schedule-picker'

const ideas: readonly (Partial<Draft> & { name: string; icon: string; color: string })[] = [
  { name: 'Read 20 pages', icon: 'book', color: 'blue', type: 'daily' },
  { name: 'Go for a run', icon: 'run', color: 'coral', type: 'weekdays', weekdays: [1, 3, 5] },
  { name: 'Drink enough water', icon: 'water', color: 'teal', type: 'daily' },
  { name: 'Ten quiet minutes', icon: 'mind', color: 'violet', type: 'daily' },
  { name: 'Strength training', icon: 'strength', color: 'rose', type: 'n_per_week', perWeek: 3 },
  { name: 'Lights out by eleven', icon: 'sleep', color: 'slate', type: 'weekdays', weekdays: [0, 1, 2, 3, 4] },
]

/** The first minutes: one habit, in two steps. */
export function FirstHabit({ me, onDone }: { me: User; onDone: () => void }) {
  const [draft, setDraft] = useState<Draft>(blank)
  const [step, setStep] = useState<1 | 2>(1)
  const [tried, setTried] = useState(false)
  const queryClient = useQueryClient()
  const wrong = tried ? faults(draft) : {}

  const create = useMutation({
    mutationFn: () => createHabit(toInput(draft)),
    onSuccess: async () => {
      await queryClient.invalidateQueries({ queryKey: ['dashboard'] })
      onDone()
    },
  })
  const next = (e: FormEvent) => {
    e.preventDefault()
    const bad = faults(draft)
    setTried(true)
    if (step === 1 && !bad.name) {
      setTried(false)
      setStep(2)
    }
    if (step === 2 && Object.keys(bad).length === 0) create.mutate()
  }

  return (
    <main className="mx-auto grid min-h-dvh w-full max-w-xl content-center gap-8 px-5 py-12">
      <div aria-hidden="true" className="flex gap-2">
        <span className="h-1.5 w-12 rounded-full bg-brand" />
        <span className={step === 2 ? 'h-1.5 w-12 rounded-full bg-brand' : 'h-1.5 w-12 rounded-full bg-line'} />
      </div>
      <header className="grid gap-2">
        <PageTitle>
          {step === 1
            ? `Welcome, ${me.name.split(' ')[0]}. What is one thing you would like to keep doing?`
            : `When will you “${draft.name.trim()}”?`}
        </PageTitle>
        <p className="text-lg text-ink-2">
          {step === 1
            ? 'Start with one. You can add more, or change it, at any time.'
            : 'A rhythm you can keep in a bad week is a good one.'}
        </p>
      </header>
      <form onSubmit={next} noValidate className="grid gap-6">
        {create.isError && <FormError>{explain(create.error)}</FormError>}
        {step === 1 ? (
          <>
            <ul className="grid gap-2 sm:grid-cols-2">
              {ideas.map((idea) => (
                <li key={idea.name}>
                  <button
                    type="button"
                    onClick={() => {
                      setDraft({ ...blank, ...idea })
                      setTried(false)
                      setStep(2)
                    }}
                    className="flex w-full items-center gap-3 rounded-card border border-line bg-surface p-3 text-left font-semibold shadow-card transition-colors hover:border-brand hover:bg-brand-soft"
                  >
                    <HabitIcon icon={idea.icon} color={idea.color} />
                    {idea.name}
                  </button>
                </li>
              ))}
            </ul>
            <TextField
              label="Or something of your own"
              placeholder="Practise the guitar"
              autoComplete="off"
              maxLength={80}
              value={draft.name}
              onChange={(e) => setDraft((d) => ({ ...d, name: e.target.value }))}
              error={wrong.name}
            />
          </>
        ) : (
          <SchedulePicker
            draft={draft}
            onChange={(c) => setDraft((d) => ({ ...d, ...c }))}
            today={me.today}
            weekStart={me.week_start}
            error={wrong.schedule ?? fieldProblem(create.error, 'schedule', 'name')}
          />
        )}
        <div className="flex flex-wrap items-center gap-3">
          {step === 2 && (
            <Button look="quiet" size="lg" onClick={() => setStep(1)}>
              <ArrowLeft aria-hidden="true" className="size-4.5" />
              Back
            </Button>
          )}
          <Button look="primary" size="lg" type="submit" busy={create.isPending}>
            {step === 1 ? 'Continue' : 'Start this habit'}
          </Button>
          <Button look="quiet" size="lg" onClick={onDone}>
            Skip for now
          </Button>
        </div>
      </form>
    </main>
  )
}
