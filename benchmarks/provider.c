/*
 * Serve a small part of Stripe's API v1 fast enough that a benchmark measures its clients: one thread, epoll, HTTP/1.1.
 *
 * It keeps the promises that clients rely on: one charge for one Idempotency-Key, echoes of the key, the amount, the
 * currency and the metadata, a true Date, and lists that are newest first. Not here: declines, faults, limits, TLS. The
 * charges of a night are computed from a rule, their keys come from a file; `planting.py` has the same rule.
 *
 *   provider [--delay-ms D] [--night N --start EPOCH --keys FILE]
 *
 * prints "port P" when it listens on 127.0.0.1, and ends with its parent. GET /bench answers with its counters.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { REQUEST_BYTES_MAX = 32768, EVENTS_MAX = 256, PAGE_ROWS_MAX = 100, DAY_S = 86400, FIELD_BYTES_MAX = 1024 };

typedef struct { char *at; size_t used, room; } Text;

typedef struct Link {
    int fd, closing, waiting, number;
    size_t got, written;
    int64_t due_ms;
    struct Link *next; /* in the queue of delayed answers */
    Text out;
    char in[REQUEST_BYTES_MAX + 1];
} Link;

typedef struct { char *key, *amount, *currency, *customer, *method, *metadata; time_t created; } Made;

typedef struct { const char *at; size_t size; } Slice;

static int64_t delay_ms, night, night_start;
static const char *night_keys;
static size_t key_bytes;
static Made *made;
static size_t made_count, made_room;
static size_t *places, places_room; /* open addressing: hash of a key -> number in `made` plus one */
static uint64_t requests, replays, links_made, links_open;
static Link *first_delayed, *last_delayed;
static int poller;

static void fail(const char *what) { perror(what); exit(1); }

static void *checked(void *memory) { if (!memory) fail("memory"); return memory; }

/* Text that grows ---------------------------------------------------------------------------------------------- */

static void put(Text *text, const char *from, size_t size)
{
    if (text->used + size + 1 > text->room) {
        text->room = 2 * (text->used + size + 1);
        text->at = checked(realloc(text->at, text->room));
    }
    memcpy(text->at + text->used, from, size);
    text->used += size;
    text->at[text->used] = 0;
}

static void say(Text *text, const char *form, ...)
{
    char small[4096];
    va_list values;
    va_start(values, form);
    int size = vsnprintf(small, sizeof small, form, values);
    va_end(values);
    if (size < 0 || size >= (int)sizeof small) { errno = EMSGSIZE; fail("an object is too large"); }
    put(text, small, size);
}

static void quote(Text *text, const char *value)
{
    if (!value) { put(text, "null", 4); return; }
    put(text, "\"", 1);
    for (; *value; value++) {
        if (*value == '"' || *value == '\\') { put(text, "\\", 1); put(text, value, 1); }
        else if ((unsigned char)*value < 32) say(text, "\\u%04x", *value);
        else put(text, value, 1);
    }
    put(text, "\"", 1);
}

/* What the provider has ---------------------------------------------------------------------------------------- */

static int64_t count_of_all(void) { return night + (int64_t)made_count; }

static int64_t created_at(int64_t number)
{
    return number < night ? night_start + number * DAY_S / night : made[number - night].created;
}

static uint64_t hash_of(const char *key)
{
    uint64_t hash = 1469598103934665603u;
    for (; *key; key++) hash = (hash ^ (unsigned char)*key) * 1099511628211u;
    return hash;
}

static size_t *place_of(const char *key)
{
    size_t place = hash_of(key) & (places_room - 1);
    while (places[place] && strcmp(made[places[place] - 1].key, key)) place = (place + 1) & (places_room - 1);
    return &places[place];
}

static void grow(void)
{
    made_room = made_room ? 2 * made_room : 4096;
    made = checked(realloc(made, made_room * sizeof *made));
    free(places);
    places_room = 4 * made_room;
    places = checked(calloc(places_room, sizeof *places));
    for (size_t number = 0; number < made_count; number++)
        if (made[number].key) *place_of(made[number].key) = number + 1;
}

/* The facts of one payment, as JSON values. */
typedef struct { Text amount, currency, customer, method, metadata; } Facts;

static void facts_of(int64_t number, Facts *facts)
{
    if (number < night) {
        say(&facts->amount, "%lld", (long long)(1000 + number % 9000));
        say(&facts->currency, "\"usd\"");
        say(&facts->customer, "null");
        say(&facts->method, "\"pm_card_visa\"");
        say(&facts->metadata,
            "{\"paycli_namespace\": \"default\", \"paycli_intent\": \"night_%07lld\", \"paycli_attempt\": \"1\", "
            "\"paycli_key\": \"%.*s\"}", (long long)number, (int)key_bytes, night_keys + number * (key_bytes + 1));
        return;
    }
    Made *one = &made[number - night];
    say(&facts->amount, "%s", one->amount);
    quote(&facts->currency, one->currency);
    quote(&facts->customer, one->customer);
    quote(&facts->method, one->method);
    say(&facts->metadata, "{%s}", one->metadata);
}

static void put_intent(Text *text, int64_t number)
{
    static Facts facts;
    facts.amount.used = facts.currency.used = facts.customer.used = facts.method.used = facts.metadata.used = 0;
    facts_of(number, &facts);
    long long n = number, created = created_at(number);
    say(text,
        "{\"id\": \"pi_bench%014lld\", \"object\": \"payment_intent\", \"allowed_payment_method_types\": null, "
        "\"amount\": %s, \"amount_capturable\": 0, \"amount_details\": {\"tip\": {}}, \"amount_received\": %s, "
        "\"application\": null, \"application_fee_amount\": null, \"automatic_payment_methods\": {\"allow_redirects\": "
        "\"never\", \"enabled\": true}, \"canceled_at\": null, \"cancellation_reason\": null, \"capture_method\": "
        "\"automatic_async\", \"client_secret\": \"pi_bench%014lld_secret_bench\", \"confirmation_method\": "
        "\"automatic\", \"created\": %lld, \"currency\": %s, \"customer\": %s, ",
        n, facts.amount.at, facts.amount.at, n, created, facts.currency.at, facts.customer.at);
    say(text,
        "\"customer_account\": null, \"description\": null, \"excluded_payment_method_types\": null, "
        "\"last_payment_error\": null, \"latest_charge\": \"ch_bench%014lld\", \"livemode\": false, "
        "\"managed_payments\": null, \"metadata\": %s, \"next_action\": null, \"on_behalf_of\": null, "
        "\"payment_method\": %s, \"payment_method_configuration_details\": null, \"payment_method_options\": "
        "{\"card\": {\"installments\": null, \"mandate_options\": null, \"network\": null, \"request_three_d_secure\": "
        "\"automatic\"}}, \"payment_method_types\": [\"card\", \"us_bank_account\"], \"payment_record\": null, "
        "\"processing\": null, \"receipt_email\": null, \"review\": null, \"setup_future_usage\": null, \"shipping\": "
        "null, \"source\": null, \"statement_descriptor\": null, \"statement_descriptor_suffix\": null, \"status\": "
        "\"succeeded\", \"transfer_data\": null, \"transfer_group\": null}",
        n, facts.metadata.at, facts.method.at);
}

static void put_charge(Text *text, int64_t number)
{
    static Facts facts;
    facts.amount.used = facts.currency.used = facts.customer.used = facts.method.used = facts.metadata.used = 0;
    facts_of(number, &facts);
    long long n = number, created = created_at(number);
    say(text,
        "{\"id\": \"ch_bench%014lld\", \"object\": \"charge\", \"amount\": %s, \"amount_captured\": %s, "
        "\"amount_refunded\": 0, \"application\": null, \"application_fee\": null, \"application_fee_amount\": null, "
        "\"balance_transaction\": \"txn_bench%014lld\", \"billing_details\": {\"address\": {\"city\": null, "
        "\"country\": null, \"line1\": null, \"line2\": null, \"postal_code\": null, \"state\": null}, \"email\": null, "
        "\"name\": null, \"phone\": null, \"tax_id\": null}, \"calculated_statement_descriptor\": \"BENCH\", "
        "\"captured\": true, \"created\": %lld, \"currency\": %s, \"customer\": %s, ",
        n, facts.amount.at, facts.amount.at, n, created, facts.currency.at, facts.customer.at);
    say(text,
        "\"description\": null, \"disputed\": false, \"failure_balance_transaction\": null, \"failure_code\": null, "
        "\"failure_message\": null, \"fraud_details\": {}, \"livemode\": false, \"metadata\": %s, \"on_behalf_of\": "
        "null, \"outcome\": {\"advice_code\": null, \"network_advice_code\": null, \"network_decline_code\": null, "
        "\"network_status\": \"approved_by_network\", \"reason\": null, \"risk_level\": \"normal\", \"risk_score\": 12, "
        "\"seller_message\": \"Payment complete.\", \"type\": \"authorized\"}, \"paid\": true, \"payment_intent\": "
        "\"pi_bench%014lld\", \"payment_method\": %s, ",
        facts.metadata.at, n, facts.method.at);
    say(text,
        "\"payment_method_details\": {\"card\": {\"amount_authorized\": %s, \"authorization_code\": \"123456\", "
        "\"brand\": \"visa\", \"checks\": {\"address_line1_check\": null, \"address_postal_code_check\": null, "
        "\"cvc_check\": \"pass\"}, \"country\": \"US\", \"exp_month\": 8, \"exp_year\": 2035, \"extended_authorization\": "
        "{\"status\": \"disabled\"}, \"fingerprint\": \"benchvisa4242\", \"funding\": \"credit\", "
        "\"incremental_authorization\": {\"status\": \"unavailable\"}, \"installments\": null, \"last4\": \"4242\", "
        "\"mandate\": null, \"multicapture\": {\"status\": \"unavailable\"}, \"network\": \"visa\", \"network_token\": "
        "{\"used\": false}, \"overcapture\": {\"maximum_amount_capturable\": %s, \"status\": \"unavailable\"}, "
        "\"three_d_secure\": null, \"wallet\": null}, \"type\": \"card\"}, ",
        facts.amount.at, facts.amount.at);
    say(text,
        "\"radar_options\": {}, \"receipt_email\": null, \"receipt_number\": null, \"receipt_url\": null, \"refunded\": "
        "false, \"review\": null, \"shipping\": null, \"source\": null, \"source_transfer\": null, "
        "\"statement_descriptor\": null, \"statement_descriptor_suffix\": null, \"status\": \"succeeded\", "
        "\"transfer_data\": null, \"transfer_group\": null}");
}

/* Forms and headers -------------------------------------------------------------------------------------------- */

static int hex(char letter) { return isdigit((unsigned char)letter) ? letter - '0' : tolower(letter) - 'a' + 10; }

/* Decode one part of a form into `to`, at most FIELD_BYTES_MAX - 1 bytes. */
static void decode(const char *from, const char *end, char *to)
{
    char *last = to + FIELD_BYTES_MAX - 1;
    for (; from < end && to < last; from++) {
        if (*from == '%' && from + 2 < end) { *to++ = (char)(hex(from[1]) * 16 + hex(from[2])); from += 2; }
        else *to++ = *from == '+' ? ' ' : *from;
    }
    *to = 0;
}

/* Take the next pair of a form or a query; 0 when there is none. */
static int next_pair(const char **at, const char *end, char *name, char *value)
{
    if (*at >= end) return 0;
    const char *stop = memchr(*at, '&', end - *at);
    if (!stop) stop = end;
    const char *equals = memchr(*at, '=', stop - *at);
    decode(*at, equals ? equals : stop, name);
    decode(equals ? equals + 1 : stop, stop, value);
    *at = stop + 1;
    return 1;
}

static Slice header(const char *head, const char *name)
{
    size_t size = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line; line = strstr(line + 2, "\r\n")) {
        const char *at = line + 2;
        if (strncasecmp(at, name, size) || at[size] != ':') continue;
        for (at += size + 1; *at == ' '; at++) {}
        return (Slice){at, strcspn(at, "\r")};
    }
    return (Slice){NULL, 0};
}

/* Answers ------------------------------------------------------------------------------------------------------ */

static void answer(Link *link, int status, const Text *body, Slice key, int replayed)
{
    char date[64];
    time_t now = time(NULL);
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime(&now));
    link->out.used = link->written = 0;
    say(&link->out,
        "HTTP/1.1 %d %s\r\nDate: %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
        "Request-Id: req_bench%012llu\r\n%s",
        status, status == 200 ? "OK" : "Error", date, body->used, (unsigned long long)requests,
        link->closing ? "Connection: close\r\n" : "");
    if (key.at) say(&link->out, "Idempotency-Key: %.*s\r\n", (int)key.size, key.at);
    if (replayed) say(&link->out, "Idempotent-Replayed: true\r\n");
    put(&link->out, "\r\n", 2);
    put(&link->out, body->at, body->used);
}

static void refuse(Link *link, int status, const char *code, Slice key)
{
    static Text body;
    body.used = 0;
    say(&body, "{\"error\": {\"type\": \"invalid_request_error\", \"code\": \"%s\", \"message\": \"not here\"}}", code);
    answer(link, status, &body, key, 0);
}

static char *kept(const char *value) { return checked(strdup(value)); }

/* Make a payment of a form; one without an amount is refused by its caller. */
static int64_t make_payment(const char *key, const char *form, const char *end)
{
    static Text metadata;
    char name[FIELD_BYTES_MAX], value[FIELD_BYTES_MAX];
    Made one = {.created = time(NULL)};
    metadata.used = 0;
    put(&metadata, "", 0);
    while (next_pair(&form, end, name, value)) {
        size_t size = strlen(name);
        if (!strncmp(name, "metadata[", 9) && name[size - 1] == ']') {
            name[size - 1] = 0;
            if (metadata.used) put(&metadata, ", ", 2);
            quote(&metadata, name + 9);
            put(&metadata, ": ", 2);
            quote(&metadata, value);
        } else if (!strcmp(name, "amount") && *value && strspn(value, "0123456789") == strlen(value)) one.amount = kept(value);
        else if (!strcmp(name, "currency")) one.currency = kept(value);
        else if (!strcmp(name, "customer")) one.customer = kept(value);
        else if (!strcmp(name, "payment_method")) one.method = kept(value);
    }
    if (!one.amount || !one.currency) return -1;
    one.metadata = kept(metadata.at);
    if (made_count == made_room) grow();
    if (*key) { one.key = kept(key); }
    made[made_count++] = one;
    if (*key) *place_of(key) = made_count;
    return count_of_all() - 1;
}

static void answer_post(Link *link, const char *form, const char *end, Slice key)
{
    static Text body;
    char name[FIELD_BYTES_MAX];
    snprintf(name, sizeof name, "%.*s", (int)key.size, key.at ? key.at : "");
    size_t known = *name ? *place_of(name) : 0;
    int64_t number = known ? night + (int64_t)known - 1 : make_payment(name, form, end);
    if (number < 0) { refuse(link, 400, "parameter_missing", key); return; }
    replays += known > 0;
    body.used = 0;
    put_intent(&body, number);
    answer(link, 200, &body, key, known > 0);
}

/* The number in an id such as pi_bench00000000000042; -1 of one that is not ours. */
static int64_t number_of(const char *id, const char *begin)
{
    char *end;
    if (strncmp(id, begin, strlen(begin))) return -1;
    int64_t number = strtoll(id + strlen(begin), &end, 10);
    return *end || number < 0 || number >= count_of_all() ? -1 : number;
}

/* How many objects were created before a moment: times never go back. */
static int64_t count_before(int64_t moment)
{
    int64_t low = 0, high = count_of_all();
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (created_at(middle) < moment) low = middle + 1;
        else high = middle;
    }
    return low;
}

static void answer_list(Link *link, int of_charges, const char *query, const char *end)
{
    static Text body;
    char name[FIELD_BYTES_MAX], value[FIELD_BYTES_MAX];
    int64_t from = 0, to = count_of_all(), limit = 10;
    while (next_pair(&query, end, name, value)) {
        if (!strcmp(name, "created[gte]")) from = count_before(strtoll(value, NULL, 10));
        else if (!strcmp(name, "created[gt]")) from = count_before(strtoll(value, NULL, 10) + 1);
        else if (!strcmp(name, "created[lt]")) { int64_t n = count_before(strtoll(value, NULL, 10)); if (n < to) to = n; }
        else if (!strcmp(name, "created[lte]")) { int64_t n = count_before(strtoll(value, NULL, 10) + 1); if (n < to) to = n; }
        else if (!strcmp(name, "limit")) limit = strtoll(value, NULL, 10);
        else if (!strcmp(name, "starting_after")) {
            int64_t number = number_of(value, of_charges ? "ch_bench" : "pi_bench");
            if (number < 0) { refuse(link, 400, "resource_missing", (Slice){NULL, 0}); return; }
            if (number < to) to = number;
        }
    }
    if (limit < 1 || limit > PAGE_ROWS_MAX) { refuse(link, 400, "parameter_invalid_integer", (Slice){NULL, 0}); return; }
    body.used = 0;
    say(&body, "{\"object\": \"list\", \"data\": [");
    int64_t last = to - limit > from ? to - limit : from;
    for (int64_t number = to - 1; number >= last; number--) {
        if (number < to - 1) put(&body, ", ", 2);
        if (of_charges) put_charge(&body, number);
        else put_intent(&body, number);
    }
    say(&body, "], \"has_more\": %s, \"url\": \"/v1/%s\"}", last > from ? "true" : "false",
        of_charges ? "charges" : "payment_intents");
    answer(link, 200, &body, (Slice){NULL, 0}, 0);
}

static void answer_counters(Link *link)
{
    static Text body;
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    body.used = 0;
    say(&body, "{\"requests\": %llu, \"replays\": %llu, \"payments\": %zu, \"connections\": %llu, \"open\": %llu, "
        "\"cpu_ms\": %lld}", (unsigned long long)requests, (unsigned long long)replays, made_count,
        (unsigned long long)links_made, (unsigned long long)links_open,
        (long long)((used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000 +
                    (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1000));
    answer(link, 200, &body, (Slice){NULL, 0}, 0);
}

static void answer_get(Link *link, char *path)
{
    static Text body;
    char *query = strchr(path, '?');
    if (query) *query++ = 0;
    else query = path + strlen(path);
    const char *end = query + strlen(query);
    int64_t number;
    body.used = 0;
    if (!strcmp(path, "/v1/payment_intents")) { answer_list(link, 0, query, end); return; }
    if (!strcmp(path, "/v1/charges")) { answer_list(link, 1, query, end); return; }
    if (!strcmp(path, "/v1/account")) say(&body, "{\"id\": \"acct_1Bench\", \"object\": \"account\"}");
    else if (!strncmp(path, "/v1/payment_intents/", 20) && (number = number_of(path + 20, "pi_bench")) >= 0)
        put_intent(&body, number);
    else if (!strncmp(path, "/v1/charges/", 12) && (number = number_of(path + 12, "ch_bench")) >= 0)
        put_charge(&body, number);
    else { refuse(link, 404, "resource_missing", (Slice){NULL, 0}); return; }
    answer(link, 200, &body, (Slice){NULL, 0}, 0);
}

/* Connections -------------------------------------------------------------------------------------------------- */

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void listen_for(Link *link, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = link};
    if (epoll_ctl(poller, EPOLL_CTL_MOD, link->fd, &event)) fail("epoll_ctl");
}

static void end_link(Link *link)
{
    if (link->waiting) { link->closing = 2; epoll_ctl(poller, EPOLL_CTL_DEL, link->fd, NULL); return; }
    close(link->fd);
    links_open--;
    free(link->out.at);
    free(link);
}

/* Answer one whole request; 0 when it has not arrived yet, -1 when it cannot be read. */
static int handle(Link *link)
{
    link->in[link->got] = 0;
    char *head_end = strstr(link->in, "\r\n\r\n");
    if (!head_end) return link->got >= REQUEST_BYTES_MAX ? -1 : 0;
    head_end[2] = 0; /* the headers are one string, ended by their last line's end */
    Slice length = header(link->in, "content-length"), close_it = header(link->in, "connection");
    size_t body_bytes = length.at ? strtoull(length.at, NULL, 10) : 0;
    char *body = head_end + 4;
    size_t whole = (size_t)(body - link->in) + body_bytes;
    if (whole > REQUEST_BYTES_MAX) return -1;
    if (link->got < whole) { head_end[2] = '\r'; return 0; }
    link->closing = close_it.at && close_it.size == 5 && !strncasecmp(close_it.at, "close", 5);
    char *path = strchr(link->in, ' ');
    char *path_end = path ? strchr(path + 1, ' ') : NULL;
    if (!path_end) return -1;
    Slice key = header(link->in, "idempotency-key");
    int post = !strncmp(link->in, "POST ", 5);
    *path_end = 0;
    path++;
    if (!post && !strcmp(path, "/bench")) answer_counters(link);
    else {
        requests++;
        if (post && !strcmp(path, "/v1/payment_intents")) answer_post(link, body, body + body_bytes, key);
        else if (post) refuse(link, 404, "resource_missing", key);
        else answer_get(link, path);
    }
    memmove(link->in, link->in + whole, link->got - whole);
    link->got -= whole;
    return 1;
}

static void write_out(Link *link)
{
    while (link->written < link->out.used) {
        ssize_t size = send(link->fd, link->out.at + link->written, link->out.used - link->written, MSG_NOSIGNAL);
        if (size < 0 && errno == EAGAIN) { listen_for(link, EPOLLOUT); return; }
        if (size < 0) { end_link(link); return; }
        link->written += size;
    }
    if (link->closing) { end_link(link); return; }
    listen_for(link, EPOLLIN);
}

static void read_in(Link *link)
{
    ssize_t size = recv(link->fd, link->in + link->got, REQUEST_BYTES_MAX - link->got, 0);
    if (size < 0 && errno == EAGAIN) return;
    if (size <= 0) { end_link(link); return; }
    link->got += size;
    int done = handle(link);
    if (done < 0) { end_link(link); return; }
    if (!done) return;
    if (!delay_ms) { write_out(link); return; }
    link->due_ms = now_ms() + delay_ms;
    link->waiting = 1;
    link->next = NULL;
    if (last_delayed) last_delayed->next = link;
    else first_delayed = link;
    last_delayed = link;
    listen_for(link, 0);
}

/* Send the delayed answers whose time has come; how long to wait for the next one, -1: there is none. */
static int send_delayed(void)
{
    while (first_delayed) {
        int64_t left = first_delayed->due_ms - now_ms();
        if (left > 0) return (int)left;
        Link *link = first_delayed;
        first_delayed = link->next;
        if (!first_delayed) last_delayed = NULL;
        link->waiting = 0;
        if (link->closing == 2) end_link(link);
        else write_out(link);
    }
    return -1;
}

static void accept_all(int door)
{
    for (;;) {
        int fd = accept4(door, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), yes = 1;
        if (fd < 0) return;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        Link *link = checked(malloc(sizeof *link));
        memset(link, 0, offsetof(Link, in));
        link->fd = fd;
        links_made++;
        links_open++;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = link};
        if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event)) fail("epoll_ctl");
    }
}

static void read_keys(const char *file)
{
    struct stat found;
    int fd = open(file, O_RDONLY);
    if (fd < 0 || fstat(fd, &found)) fail(file);
    if (!found.st_size) return;
    night_keys = mmap(NULL, found.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (night_keys == MAP_FAILED) fail(file);
    key_bytes = (const char *)memchr(night_keys, '\n', found.st_size) - night_keys;
    if ((int64_t)(found.st_size / (key_bytes + 1)) < night) { errno = EINVAL; fail("fewer keys than charges"); }
}

static int open_door(void)
{
    int door = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), yes = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(door, (struct sockaddr *)&address, sizeof address) || listen(door, 4096)) fail("listen");
    if (getsockname(door, (struct sockaddr *)&address, &size)) fail("getsockname");
    printf("port %d\n", ntohs(address.sin_port));
    fflush(stdout);
    return door;
}

int main(int count, char **words)
{
    const char *keys = NULL;
    for (int number = 1; number + 1 < count; number += 2) {
        char *name = words[number], *value = words[number + 1];
        if (!strcmp(name, "--delay-ms")) delay_ms = strtoll(value, NULL, 10);
        else if (!strcmp(name, "--night")) night = strtoll(value, NULL, 10);
        else if (!strcmp(name, "--start")) night_start = strtoll(value, NULL, 10);
        else if (!strcmp(name, "--keys")) keys = value;
        else { fprintf(stderr, "provider: what is %s?\n", name); return 2; }
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (keys) read_keys(keys);
    grow();
    poller = epoll_create1(EPOLL_CLOEXEC);
    int door = open_door();
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL}, found[EVENTS_MAX];
    if (poller < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, door, &event)) fail("epoll");
    for (;;) {
        int ready = epoll_wait(poller, found, EVENTS_MAX, send_delayed());
        for (int number = 0; number < ready; number++) {
            Link *link = found[number].data.ptr;
            if (!link) accept_all(door);
            else if (found[number].events & EPOLLOUT) write_out(link);
            else read_in(link);
        }
    }
}
