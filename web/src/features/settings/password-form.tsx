import { useMutation, useQueryClient } from '@tanstack/react-query'
import { type FormEvent, useState } from 'react'
import { changePassword, sessionsQuery } from '@/api/me'
import { explain, fieldProblem } from '@/api/problem'
import { Button } from '@/ui/button'
import { FormError, TextField } from '@/ui/field'
import { toast } from '@/ui/toast'

/** Changes the password. */
export function PasswordForm() {
  const [current, setCurrent] = useState('')
  const [next, setNext] = useState('')
  const [tried, setTried] = useState(false)
  const queryClient = useQueryClient()
  const change = useMutation({
    mutationFn: changePassword,
    onSuccess: () => {
      setCurrent('')
      setNext('')
      setTried(false)
      void queryClient.invalidateQueries({ queryKey: sessionsQuery.queryKey })
      toast({ text: 'Your password is changed. Other places are signed out.' })
    },
  })
  const short = [...next].length < 10
  const submit = (e: FormEvent) => {
    e.preventDefault()
    setTried(true)
    if (current !== '' && !short) change.mutate({ current, new: next })
  }
  return (
    <form onSubmit={submit} noValidate className="grid gap-5">
      {change.isError && <FormError>{explain(change.error)}</FormError>}
      <div className="grid gap-5 sm:grid-cols-2">
        <TextField
          label="Password until now"
          type="password"
          autoComplete="current-password"
          value={current}
          onChange={(e) => setCurrent(e.target.value)}
          error={tried && current === '' ? 'Enter the password you have now.' : fieldProblem(change.error, 'current')}
        />
        <TextField
          label="New password"
          type="password"
          autoComplete="new-password"
          hint="At least ten characters."
          value={next}
          onChange={(e) => setNext(e.target.value)}
          error={tried && short ? 'Choose at least ten characters.' : fieldProblem(change.error, 'new')}
        />
      </div>
      <div>
        <Button type="submit" busy={change.isPending}>
          Change password
        </Button>
      </div>
    </form>
  )
}
