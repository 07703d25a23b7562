/** A code of the engine, the same that the command line prints under `--json`. */
export type VastEngineCode =
  | 'invalid_argument'
  | 'invalid_config'
  | 'missing_api_key'
  | 'credential_destination'
  | 'state_unavailable'
  | 'claim_corrupt'
  | 'claim_changed'
  | 'claim_missing'
  | 'identity_mismatch'
  | 'not_ours'
  | 'repository_mismatch'
  | 'lease_busy'
  | 'invalid_state'
  | 'lease_id_conflict'
  | 'lease_released'
  | 'confirmation_needed'
  | 'lease_not_found'
  | 'lease_ambiguous'
  | 'no_offers'
  | 'auth_failed'
  | 'two_factor_required'
  | 'permission_denied'
  | 'insufficient_credit'
  | 'spend_limited'
  | 'rate_limited'
  | 'api_unreachable'
  | 'api_timeout'
  | 'api_unavailable'
  | 'api_rejected'
  | 'api_malformed'
  | 'offer_gone'
  | 'bid_too_low'
  | 'price_cap_exceeded'
  | 'cost_limit_exceeded'
  | 'rental_mismatch'
  | 'outbid'
  | 'create_ambiguous'
  | 'create_phantom'
  | 'instance_gone'
  | 'start_failed_host'
  | 'start_failed_image'
  | 'start_stalled'
  | 'start_queued'
  | 'instance_not_running'
  | 'boot_timeout'
  | 'ssh_timeout'
  | 'ssh_refused'
  | 'host_key_changed'
  | 'ssh_lost'
  | 'release_unproved'
  | 'not_a_repository'
  | 'sync_too_large'
  | 'mass_deletion'
  | 'sync_busy'
  | 'sync_timeout'
  | 'sync_failed'
  | 'copy_failed'
  | 'remote_control'
  | 'workspace_busy'
  | 'cleanup_failed'
  | 'doctor_failed'
  | 'cancelled'
  | 'internal'

/**
 * What went wrong; stable, programs may match on it. `native_unavailable`: the addon or the binary is not installed
 * for this platform. `unsupported_runtime`: this is not Node.
 */
export type VastLeaseErrorCode = VastEngineCode | 'native_unavailable' | 'unsupported_runtime'

/**
 * The failure of a call.
 *
 * `instanceof` also recognises errors of another copy of this package. A call that was cancelled by its signal
 * rejects with the signal's own reason instead.
 */
export declare class VastLeaseError extends Error {
  constructor(message: string, fields?: VastLeaseErrorFields)
  readonly name: 'VastLeaseError'
  /** What went wrong. */
  readonly code: VastLeaseErrorCode
  /** What to do now, if that is known. */
  readonly hint: string | undefined
  /** Whether the same call may succeed later without any change. */
  readonly retryable: boolean
  /** Named facts: `lease`, `instance`, `offer`, `option`, … Which ones depends on the code. */
  readonly details: Readonly<Record<string, unknown>>
  /** What it followed from. */
  readonly cause?: unknown
  /** Without stack and cause. */
  toJSON(): VastLeaseErrorJSON
}

/** What {@link VastLeaseError} is made of besides its message. */
export interface VastLeaseErrorFields {
  code?: VastLeaseErrorCode
  hint?: string
  retryable?: boolean
  details?: Record<string, unknown>
  cause?: unknown
}

/** {@link VastLeaseError} as JSON. */
export interface VastLeaseErrorJSON {
  name: string
  code: VastLeaseErrorCode
  message: string
  hint?: string
  retryable: boolean
  details: Record<string, unknown>
}
