/* Voting by telephone: at most `maxv` votes from one number, each for an existing contestant.
 *
 *     vote(phone bigint, contestant int, maxv int) returns int
 *
 * 0 = counted, 1 = there is no such contestant, 2 = this number has no votes left. vote_hot() adds
 * to the contestant's total, too: one row that every call writes. */
#include <dbos/procedure.h>

enum { CONTESTANT, VOTES_OF, INSERT_VOTE, FIRST_VOTE, NEXT_VOTE, ADD_TO_TOTAL };

static const char *const statements[] = {
    [CONTESTANT] = "SELECT 1 FROM contestants WHERE id = $1",
    [VOTES_OF] = "SELECT n FROM phone_votes WHERE phone = $1",
    [INSERT_VOTE] = "INSERT INTO votes VALUES ($1, $2)",
    [FIRST_VOTE] = "INSERT INTO phone_votes VALUES ($1, 1)",
    [NEXT_VOTE] = "UPDATE phone_votes SET n = n + 1 WHERE phone = $1",
    [ADD_TO_TOTAL] = "UPDATE contestants SET total = total + 1 WHERE id = $1",
};

enum { COUNTED = 0, NO_CONTESTANT = 1, NO_VOTES_LEFT = 2 };

static int64_t count_vote(struct dbos_call *call) {
    int64_t phone = dbos_arg_int(call, 0);
    int64_t contestant = dbos_arg_int(call, 1);
    if (dbos_execute(call, CONTESTANT, DBOS_INT(contestant)) == 0) {
        return NO_CONTESTANT;
    }
    dbos_execute(call, VOTES_OF, DBOS_INT(phone));
    bool voted = dbos_fetch(call, VOTES_OF);
    if (voted && dbos_column_int(call, VOTES_OF, 0) >= dbos_arg_int(call, 2)) {
        return NO_VOTES_LEFT;
    }
    dbos_execute(call, INSERT_VOTE, DBOS_INT(phone), DBOS_INT(contestant));
    dbos_execute(call, voted ? NEXT_VOTE : FIRST_VOTE, DBOS_INT(phone));
    return COUNTED;
}

static int vote(struct dbos_call *call) { return dbos_return_int(call, count_vote(call)); }
DBOS_PROCEDURE(vote, .run = vote, .statements = statements, .statement_count = ADD_TO_TOTAL,
               .route = "votes.phone=$1");

static int vote_hot(struct dbos_call *call) {
    int64_t outcome = count_vote(call);
    if (outcome == COUNTED) {
        dbos_execute(call, ADD_TO_TOTAL, DBOS_INT(dbos_arg_int(call, 1)));
    }
    return dbos_return_int(call, outcome);
}
/* It writes a table that every partition reads, so it runs with all of them in hand. */
DBOS_PROCEDURE(vote_hot, .run = vote_hot, .statements = statements,
               .statement_count = ADD_TO_TOTAL + 1);
