import type { Command, ExecOptions, RemoteCommand } from './exec.js'
import type { CallOptions, ReleaseAction } from './options.js'
import type { Deadman, Endpoint, LeaseInfo, LeaseStatus, Released, Touched } from './results.js'

/**
 * A leased instance with a live SSH session; made by {@link acquire}.
 *
 * It ends by `release()`, by `await using`, by the end of this process (unless it was acquired with `keep`), by its
 * TTL or its idle timeout. It is not ended by garbage collection, and by a signal only after
 * {@link installSignalHandlers}.
 */
export declare class Lease implements LeaseInfo {
  private constructor()
  readonly id: string
  readonly slug: string
  readonly instance: string
  readonly offer: string | null
  readonly price: number | null
  readonly gpu: string
  readonly endpoint: Endpoint
  readonly keep: boolean
  readonly workRoot: string
  readonly idleTimeoutSeconds: number
  readonly expiresAt: string | null
  readonly deadman: Deadman

  /**
   * Runs a command, at once. An array of words reaches the program as it is; `{ shell }` is read by the remote shell.
   *
   * Await it for the whole result, or iterate it for the output as it comes. A command that fails is a result, not an
   * error: see `exitCode`. Several commands may run at the same time.
   *
   * ```js
   * const { exitCode, stdout } = await lease.exec(['python3', 'train.py'])
   * for await (const { stream, data } of lease.exec({ shell: 'make 2>&1 | tee log' })) process[stream].write(data)
   * ```
   */
  exec(command: Command, options: ExecOptions<Uint8Array> & { encoding: 'buffer' }): RemoteCommand<Uint8Array>
  exec(command: Command, options?: ExecOptions): RemoteCommand

  /** The lease's state, freshly read. */
  status(options?: CallOptions): Promise<LeaseStatus>

  /** Moves the idle deadline, never the TTL. */
  touch(options?: CallOptions): Promise<Touched>

  /**
   * Ends the lease and proves that the instance is gone. A second call gets the answer of the first; after a failure it
   * tries again.
   */
  release(options?: CallOptions & { action?: ReleaseAction }): Promise<Released>

  /** Releases, unless the lease was acquired with `keep`; then it only closes the connection. */
  [Symbol.asyncDispose](): Promise<void>

  /** The plain facts; no secret is among them. */
  toJSON(): LeaseInfo
}
