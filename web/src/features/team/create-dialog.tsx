import { useMutation, useQueryClient } from '@tanstack/react-query'
import { type FormEvent, useId, useState } from 'react'
import { explain, fieldProblem } from '@/api/problem'
import { createTeam } from '@/api/teams'
import { Button } from '@/ui/button'
import { Dialog, DialogActions, DialogBody } from '@/ui/dialog'
import { FormError, TextField } from '@/ui/field'

/** Founds a team. */
export function CreateTeamDialog({ open, onClose, onCreated }: { open: boolean; onClose: () => void; onCreated: (id: string) => void }) {
  return (
    <Dialog open={open} onClose={onClose} title="New team" description="You can invite people right after.">
      <CreateTeamForm onClose={onClose} onCreated={onCreated} />
    </Dialog>
  )
}

function CreateTeamForm({ onClose, onCreated }: { onClose: () => void; onCreated: (id: string) => void }) {
  const [name, setName] = useState('')
  const [tried, setTried] = useState(false)
  const formId = useId()
  const queryClient = useQueryClient()
  const create = useMutation({
    mutationFn: createTeam,
    onSuccess: async ({ team }) => {
      await queryClient.invalidateQueries({ queryKey: ['teams'] })
      onClose()
      onCreated(team.id)
    },
  })
  const submit = (e: FormEvent) => {
    e.preventDefault()
    setTried(true)
    if (name.trim() !== '') create.mutate({ name: name.trim() })
  }
  return (
    <>
      <DialogBody>
        <form id={formId} onSubmit={submit} noValidate className="grid gap-4">
          {create.isError && <FormError>{explain(create.error)}</FormError>}
          <TextField
            label="Name of the team"
            placeholder="Harbor Crew"
            autoComplete="off"
            maxLength={60}
            value={name}
            onChange={(e) => setName(e.target.value)}
            error={tried && name.trim() === '' ? 'Give the team a name.' : fieldProblem(create.error, 'name')}
          />
        </form>
      </DialogBody>
      <DialogActions>
        <Button look="quiet" onClick={onClose}>
          Cancel
        </Button>
        <Button look="primary" type="submit" form={formId} busy={create.isPending}>
          Create team
        </Button>
      </DialogActions>
    </>
  )
}
