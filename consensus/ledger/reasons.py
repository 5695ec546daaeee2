"""Why the ledger refuses: money and accounts (E12), tasks and providers (E13), disputes (E142 and up)."""

from gensyn_node.primitives.errors import reason

# --- envelope, money, stake

WRONG_CHAIN = reason(
    "E1201",
    "signed_for_other_chain",
    "The transaction was signed for another chain.",
    "Use the chain id that `status` shows.",
)
BAD_NONCE = reason(
    "E1202",
    "bad_nonce",
    "The nonce is not the account's next one.",
    "Ask for the account's nonce and sign again; wait for pending transactions.",
)
FEE_TOO_LOW = reason("E1203", "fee_too_low", "The fee is below the least fee for this message.", "Offer the fee named.")
INSUFFICIENT_FUNDS = reason(
    "E1204", "insufficient_funds", "There is not enough money where it should come from.", "Send less or add money."
)
BLOCK_FULL = reason(
    "E1205", "block_full", "The block's units were used up before this transaction.", "It may enter a later block."
)
BAD_STAKE = reason(
    "E1206", "bad_stake", "The validator's stake cannot become that.", "Stay at zero or above the least stake."
)
NOT_OPERATOR = reason(
    "E1207", "not_operator", "Another account operates this validator.", "Sign with the operator's key."
)
BAD_KEY_PROOF = reason(
    "E1208", "bad_key_proof", "The validator key did not agree to this operator.", "Sign the proof with that key."
)
LAST_VALIDATOR = reason(
    "E1209", "last_validator", "Without this stake the chain would have no validator.", "Bond another validator first."
)
UNKNOWN_VALIDATOR = reason(
    "E1210", "validator_not_bonded", "No such validator is bonded.", "Check the address with `chain validators`."
)
ZERO_AMOUNT = reason("E1211", "zero_amount", "The amount is zero.", "Name an amount above zero.")
BAD_GENESIS = reason("E1212", "bad_genesis", "The genesis does not describe a chain that can start.", "Correct it.")

# --- governance

UNKNOWN_PROPOSAL = reason(
    "E1250", "unknown_proposal", "There is no such proposal.", "See `gov list` for the proposals there are."
)
IMPOSSIBLE_PROPOSAL = reason(
    "E1251", "impossible_proposal", "The proposal cannot be voted on as it is.", "Correct what is named."
)
PROPOSALS_FULL = reason(
    "E1252", "proposals_full", "As many proposals as may be are under vote.", "Wait until the vote on one ends."
)
VOTING_OVER = reason("E1253", "voting_over", "The vote on this proposal has ended.", "See `gov show` for its result.")
NO_VOTING_STAKE = reason(
    "E1254", "no_voting_stake", "The account has no stake at this validator.", "Vote where your stake is."
)
BAD_CHOICE = reason("E1255", "bad_choice", "That is no choice.", "Vote yes, no, abstain or veto.")
BAD_PARAMETER = reason(
    "E1256",
    "bad_parameter",
    "Governance may not give the parameter this value.",
    "See `chain params` for what it may become.",
)
PARAMETER_FIXED = reason(
    "E1257",
    "parameter_fixed",
    "Governance may not change the parameter, or not in this direction.",
    "See `chain params` for why.",
)
UPGRADE_NEEDED = reason(
    "E1258",
    "upgrade_needed",
    "The chain goes on under rules that this program does not know. Its data is good.",
    "Install a version of gensyn that knows the upgrade named, and start it on the same home.",
)
BAD_DELEGATION = reason(
    "E1213",
    "bad_delegation",
    "The delegation cannot become that.",
    "Leave it at zero or at the least amount; an operator bonds and unbonds instead.",
)
TOO_MANY_ENTRIES = reason(
    "E1214", "too_many_entries", "The account has as many of these as it may.", "Wait until one is paid out or gone."
)
COMMISSION_ABOVE = reason(
    "E1215",
    "commission_above",
    "The validator keeps more of the rewards than you accept.",
    "Look at its commission with `stake validators`.",
)
BAD_COMMISSION = reason(
    "E1216", "bad_commission", "The commission cannot be changed to that now.", "Raise it in small steps."
)
NO_REWARDS = reason("E1217", "no_rewards", "There is nothing to withdraw.", "Look with `stake rewards`.")
NOT_JAILED = reason(
    "E1218", "not_jailed", "The validator cannot be let out of jail.", "See its state with `stake validators`."
)
STILL_JAILED = reason("E1219", "still_jailed", "Its time in jail is not over.", "Wait for the height named.")

# --- providers and tasks

BAD_OFFER = reason(
    "E1301", "bad_offer", "The provider's offer is out of its bounds.", "Read the parameters and offer within them."
)
NOT_A_PROVIDER = reason(
    "E1302", "not_a_provider", "The account is not registered as a provider.", "Register with `node role` first."
)
ALREADY_A_PROVIDER = reason(
    "E1303", "already_a_provider", "The account is registered already.", "Update the offer instead."
)
BAD_PROVIDER_STATE = reason(
    "E1304", "bad_provider_state", "The provider's state does not allow this.", "See its state with `node why`."
)
PROVIDERS_FULL = reason(
    "E1305", "providers_full", "The registry holds as many providers as it may.", "Wait until one leaves."
)
PROGRAM_KNOWN = reason(
    "E1306", "program_known", "The program is on the chain already.", "Refer to it by its id; nothing more is needed."
)
UNKNOWN_PROGRAM = reason(
    "E1307", "unknown_program", "The task's program is not on the chain.", "Publish the program first."
)
BAD_SPEC = reason("E1308", "bad_spec", "The task's specification is out of bounds.", "Correct the field named.")
DATASET_MISMATCH = reason(
    "E1309",
    "task_dataset_mismatch",
    "The dataset does not give what the program's batches need.",
    "Give one tensor for each batch input, with its name, dtype and record shape, in order.",
)
PRICE_TOO_LOW = reason(
    "E1310", "price_too_low", "The price cannot pay anybody for this amount of work.", "Offer the price named."
)
UNKNOWN_TASK = reason("E1311", "unknown_task", "There is no such task.", "Check the id with `task list`.")
BAD_TASK_STATE = reason(
    "E1312", "bad_task_state", "The task's state does not allow this.", "See its state with `task show`."
)
NOT_SUBMITTER = reason(
    "E1313", "not_submitter", "Another account submitted the task.", "Sign with the submitter's key."
)
NOT_SOLVER = reason("E1314", "not_solver", "Another provider is the task's solver.", "Do what `duties` lists.")
TOO_LATE = reason("E1315", "too_late", "The time for this is over.", "Do what `duties` lists; mind its heights.")
BAD_COMMIT = reason(
    "E1316",
    "bad_instalment_commit",
    "The commit does not have the instalment's number and segments.",
    "Commit the one that is due.",
)
UNKNOWN_INSTALMENT = reason(
    "E1317", "unknown_instalment", "There is no such instalment in this attempt.", "Look at the task again."
)
NOT_VERIFIER = reason(
    "E1318", "not_verifier", "The account was not drawn for this instalment.", "Do what `duties` lists."
)
BAD_VERDICT_STATE = reason(
    "E1319",
    "bad_verdict_state",
    "The verdict cannot be given in this phase.",
    "Commit first; reveal when all committed.",
)
COMMITMENT_MISMATCH = reason(
    "E1320",
    "commitment_mismatch",
    "What is revealed is not what was committed.",
    "Reveal with the same values and salt.",
)
BAD_FINDINGS = reason(
    "E1321", "bad_findings", "The findings are not one for each drawn segment.", "Answer the segments drawn, in order."
)

CLASS_CLOSED = reason(
    "E1322",
    "arithmetic_class_closed",
    "The chain does not take tasks of this arithmetic class.",
    "Submit it as rep-v1.",
)
NO_PROFILE = reason("E1323", "no_profile", "The task is not being profiled.", "Do what `duties` lists.")
NOT_PROFILER = reason(
    "E1324", "not_profiler", "The account was not drawn to profile this task.", "Do what `duties` lists."
)
BAD_PROFILE = reason(
    "E1325", "bad_profile", "The measurements are not one for each state entry.", "Measure all entries, in order."
)

VALUES_DEMANDED = reason(
    "E1336", "values_demanded", "The segment's values were asked for already.", "Wait for the solver's answer."
)
NOTHING_DEMANDED = reason(
    "E1337",
    "nothing_demanded",
    "Nobody waits for the values of this segment from the account.",
    "Do what `duties` lists.",
)
BAD_DISCLOSURE = reason(
    "E1338",
    "bad_disclosure",
    "The roots do not make up the committed segment.",
    "Answer from the machine and the number of threads that the task was trained with.",
)
BAD_SECRET = reason(
    "E1326",
    "bad_secret",
    "The secret, or the roots with it, do not fit what was committed and shown.",
    "Show the secret of this instalment's seal, and the right root.",
)
BAD_INSTALMENT_STATE = reason(
    "E1327", "bad_instalment_state", "The instalment's phase does not allow this.", "Do what `duties` lists."
)

# --- disputes

CHALLENGE_CLOSED = reason(
    "E1421", "challenge_closed", "The instalment takes no challenges now.", "See its window with `task show`."
)
CHALLENGE_PENDING = reason(
    "E1422", "challenge_pending", "A challenge of this account is pending there.", "Reveal that one first."
)
NO_CHALLENGE = reason(
    "E1423", "no_challenge", "No challenge of this account is pending there.", "Commit to the challenge first."
)
TOO_MANY_CHALLENGES = reason(
    "E1424", "too_many_challenges", "The instalment or dispute has as many challengers as it may.", "Watch the others."
)
BOND_TOO_SMALL = reason(
    "E1425", "bond_too_small", "The free bond does not cover what would be at stake.", "Add to the bond."
)
BAD_CHALLENGE = reason(
    "E1426", "bad_challenge", "The challenge names nothing that can be wrong.", "Check segment, verifier and root."
)
OWN_CLAIM = reason("E1427", "own_claim", "One cannot challenge oneself.", "Leave it to others.")
UNKNOWN_DISPUTE = reason("E1428", "unknown_dispute", "There is no such dispute.", "Check the id with `dispute list`.")
NOT_A_PARTY = reason(
    "E1429", "not_a_party", "The account has no move in this dispute.", "Only defender and leading challenger move."
)
DISPUTE_OVER = reason("E1430", "dispute_over", "The dispute is resolved; nothing can change it.", "See its outcome.")
