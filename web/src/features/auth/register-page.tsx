import { useMutation } from '@tanstack/react-query'
import { type FormEvent, type ReactNode, useState } from 'react'
import { register } from '@/api/me'
import { explain, fieldProblem, Problem } from '@/api/problem'
import type { User } from '@/api/types'
import { Button } from '@/ui/button'
import { FormError, TextField } from '@/ui/field'
import { emailFault, passwordFault } from './check'
import { AuthFrame } from './frame'

/** Makes an account. The zone is the browser's; it can be changed in the settings. */
export function RegisterPage({ onRegistered, toSignIn }: { onRegistered: (user: User) => void; toSignIn: ReactNode }) {
  const [name, setName] = useState('')
  const [email, setEmail] = useState('')
  const [password, setPassword] = useState('')
  const [tried, setTried] = useState(false)
  const tz = Intl.DateTimeFormat().resolvedOptions().timeZone || 'UTC'
  const go = useMutation({ mutationFn: register, onSuccess: onRegistered })
  const nameFault = name.trim() === '' ? 'Tell us what to call you.' : undefined
  const taken = go.error instanceof Problem && go.error.status === 409
  const submit = (e: FormEvent) => {
    e.preventDefault()
    setTried(true)
    if (!nameFault && !emailFault(email) && !passwordFault(password)) go.mutate({ name: name.trim(), email: email.trim(), password, tz })
  }
  return (
    <AuthFrame title="Create your account">
      <form onSubmit={submit} noValidate className="grid gap-5">
        {go.isError && !taken && <FormError>{explain(go.error)}</FormError>}
        <TextField
          label="Your name"
          autoComplete="name"
          maxLength={80}
          hint="What your team-mates see."
          value={name}
          onChange={(e) => setName(e.target.value)}
          error={(tried ? nameFault : undefined) ?? fieldProblem(go.error, 'name')}
        />
        <TextField
          label="E-mail address"
          type="email"
          autoComplete="username"
          maxLength={254}
          value={email}
          onChange={(e) => setEmail(e.target.value)}
          error={
            (tried ? emailFault(email) : undefined) ??
            (taken ? 'There is an account with this address already. Sign in, or use another one.' : fieldProblem(go.error, 'email'))
          }
        />
        <TextField
          label="Password"
          type="password"
          autoComplete="new-password"
          hint="At least ten characters. A short sentence is a good one."
          value={password}
          onChange={(e) => setPassword(e.target.value)}
          error={(tried ? passwordFault(password) : undefined) ?? fieldProblem(go.error, 'password')}
        />
        <Button look="primary" size="lg" type="submit" busy={go.isPending}>
          Create account
        </Button>
        <p className="text-[0.8125rem] text-ink-3">
          Your days are counted in the time zone <b className="font-semibold text-ink-2">{tz}</b>.
        </p>
      </form>
      <p className="text-[0.9375rem] text-ink-2">Have an account? {toSignIn}</p>
    </AuthFrame>
  )
}
