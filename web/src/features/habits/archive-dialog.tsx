import { useMutation, useQueryClient } from '@tanstack/react-query'
import { archiveHabit } from '@/api/habits'
import { explain } from '@/api/problem'
import type { Habit } from '@/api/types'
import { Button } from '@/ui/button'
import { Dialog, DialogActions, DialogBody } from '@/ui/dialog'
import { FormError } from '@/ui/field'
import { toast } from '@/ui/toast'

/** Asks before a habit is put away. */
export function ArchiveDialog({ habit, onClose }: { habit: Habit | undefined; onClose: () => void }) {
  const queryClient = useQueryClient()
  const archive = useMutation({
    mutationFn: archiveHabit,
    onSuccess: async (_, archived) => {
      await queryClient.invalidateQueries({ queryKey: ['dashboard'] })
      toast({ text: `“${archived.name}” is archived` })
      onClose()
    },
  })
  return (
    <Dialog open={habit !== undefined} onClose={onClose} title={`Archive “${habit?.name ?? ''}”?`}>
      <DialogBody>
        {archive.isError && <FormError>{explain(archive.error)}</FormError>}
        <p className="text-ink-2">It leaves your list and is not due any more. Everything you recorded stays.</p>
      </DialogBody>
      <DialogActions>
        <Button look="quiet" onClick={onClose}>
          Keep it
        </Button>
        <Button look="danger" busy={archive.isPending} onClick={() => habit && archive.mutate(habit)}>
          Archive
        </Button>
      </DialogActions>
    </Dialog>
  )
}
